"""A certificate for servers of the tests: trusted by whoever is given it, and by nobody else."""

import subprocess
from pathlib import Path


def certificate_for(folder: Path, *names: str) -> tuple[Path, Path]:
    """The files of a new certificate and its key. `names` as in `DNS:localhost`, `IP:127.0.0.1`."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    words = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=t"
    )
    whose = ["-addext", f"subjectAltName={','.join(names)}"]
    files = ["-out", str(certificate), "-keyout", str(key)]
    subprocess.run([*words.split(), *whose, *files], check=True, capture_output=True)
    return certificate, key
