"""What can go wrong outside this program, each as one line that says what to do."""

import errno
import re
import socket
from pathlib import Path

import httpx

from service.engine.weights.manifest import human
from service.errors import UserError

ELSEWHERE = "or use --offline if these weights were verified here before"
_RESET = re.compile(r"\bt=(\d+)")
_MESSAGE_LENGTH = 200


class Again(Exception):
    """It may work if tried once more: how it ended, and what to do if every attempt ends so."""

    def __init__(self, what: str, todo: str, *, after: float = 0.0, answered: bool = False) -> None:
        super().__init__(what)
        self.todo = todo
        self.after = after
        self.answered = answered
        """Someone was there: waiting may help. A missing network is better told at once."""


def flat(error: object) -> str:
    """A foreign message as part of one line."""
    return " ".join(str(error).split())[:_MESSAGE_LENGTH] or type(error).__name__


def broken(error: httpx.HTTPError | httpx.InvalidURL, host: str) -> Again | UserError:
    """No answer, or only a part of one."""
    text = flat(error)
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return UserError(
            f"{host} is no address of a Hub ({text}): set HF_ENDPOINT to https://… or unset it"
        )
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return UserError(
            f"the certificate of {host} is not trusted: if your network inspects TLS, set "
            "SSL_CERT_FILE to its authority's certificates"
        )
    if isinstance(error, httpx.ProxyError):
        return Again(f"the proxy refuses to connect to {host} ({text})", "check HTTPS_PROXY")
    if _unresolved(error):
        return Again(
            f"cannot find {host} (DNS: {text})",
            f"check the network, set HTTPS_PROXY, set HF_ENDPOINT to a mirror, {ELSEWHERE}",
        )
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return Again(
            f"cannot connect to {host} ({text})",
            f"check the network, set HTTPS_PROXY, set HF_ENDPOINT to a mirror, {ELSEWHERE}",
        )
    return Again(
        f"the connection to {host} broke ({text})",
        "run again, it continues where it was",
        answered=True,
    )


def _unresolved(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, socket.gaierror):
            return True
        error = error.__cause__ or error.__context__
    return False


def refused(response: httpx.Response, hub: str, repo: str, revision: str) -> Again | UserError:
    """An answer that is not the file or the list. `hub` is the host that was asked first."""
    status, host = response.status_code, response.url.host
    code = response.headers.get("X-Error-Code", "")
    if status in (408, 425, 429) or status >= 500:
        todo = "try again in some minutes, it continues where it was"
        if status == httpx.codes.TOO_MANY_REQUESTS:
            todo += "; with HF_TOKEN set the limit is higher"
        return Again(f"{host} answers {status}", todo, after=_wait(response), answered=True)
    if host != hub and status in (400, 401, 403):
        # A link of the Hub to its CDN, good for an hour or so; the next attempt gets a new one.
        return Again(
            f"{host}, where the Hub sends us, answers {status}",
            "check this machine's clock and that the proxy allows that host",
            answered=True,
        )
    if code == "RevisionNotFound":
        return UserError(f"{repo} has no revision {revision}: use main, a tag or a full commit")
    if code == "GatedRepo":
        return UserError(
            f"{repo} is gated: accept its terms at https://{hub}/{repo} and set HF_TOKEN"
        )
    if status == httpx.codes.UNAUTHORIZED:
        return UserError(
            f"{host} shows {repo} to nobody without a valid token (401): check the name, or set "
            "HF_TOKEN anew (`hf auth login`)"
        )
    if status == httpx.codes.FORBIDDEN:
        return UserError(
            f"{host} forbids {repo} (403): use an HF_TOKEN that may read it, or, if a proxy "
            "answers here, have it allow this host"
        )
    if status == httpx.codes.NOT_FOUND:
        return UserError(f"{host} has no {repo} at {revision} (404): check the name and revision")
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        return Again(
            f"{host} has fewer bytes than published (416)",
            "check HF_ENDPOINT, it may be a mirror that lags behind",
            answered=True,
        )
    return UserError(f"{host} answers {status} for {repo}: check HF_ENDPOINT and HTTPS_PROXY")


def _wait(response: httpx.Response) -> float:
    """Seconds the server asks for: Retry-After, or `t=` of the Hub's RateLimit header."""
    after = response.headers.get("Retry-After", "")
    reset = _RESET.search(response.headers.get("RateLimit", ""))
    if after.isdecimal():
        return float(after)
    return float(reset[1]) if reset and response.status_code == 429 else 0.0


def stranger(host: str) -> UserError:
    """A 200 whose body no Hub would send, such as a proxy's page to log in."""
    return UserError(
        f"{host} does not answer as a Hugging Face Hub: a proxy or login page may answer in its "
        "place; check HTTPS_PROXY, NO_PROXY and HF_ENDPOINT"
    )


def too_small(repo: str, missing: int, total: int, free: int, folder: Path) -> UserError:
    """Told before the first byte."""
    return UserError(
        f"{repo} needs {human(missing)} more ({human(total)} in all, {human(total - missing)} "
        f"here), but {folder} has {human(free)} free, {human(missing - free)} too little: free "
        "space there, or set HF_HOME to a larger disk"
    )


def disk(error: OSError, folder: Path) -> UserError:
    """The cache or the stamps cannot be read or written."""
    where = error.filename or folder
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"the disk of {folder} is full: free space, then run again to continue")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError(
            f"{where} may not be changed by this user: make it writable, or set HF_HOME (weights) "
            "and GPTOSS_CACHE_DIR (stamps) to folders that are"
        )
    return UserError(f"{where}: {error.strerror or flat(error)}: check the disk and its folders")
