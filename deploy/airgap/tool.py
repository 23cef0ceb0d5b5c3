"""This tool as one file, for a machine that has Python and nothing else."""

import io
import zipfile
from pathlib import Path
from typing import Final

POD: Final = Path(__file__).with_name("unpack.yaml")
"""A pod in which it unpacks weights onto a claim."""
_MAIN = """import sys
from deploy.airgap.__main__ import main
sys.exit(main())
"""
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def zipped() -> bytes:
    """`airgap.pyz`; the same bytes for the same modules."""
    texts = {"__main__.py": _MAIN, "deploy/__init__.py": ""}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        texts[f"deploy/airgap/{path.name}"] = path.read_text()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name, _LONG_AGO), text)
    return made.getvalue()
