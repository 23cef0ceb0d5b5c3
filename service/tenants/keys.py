"""A key: `gptoss_<id>_<secret>`.

The id is public: it names the key in logs and commands. Of the whole token only the SHA-256 is
stored. That is enough, and a slow hash would add nothing: the secret has 256 random bits, so that
there is nothing to guess.
"""

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import AwareDatetime, Field

from service.quota.limits import UNLIMITED, Limits

ALPHABET = string.ascii_letters + string.digits
ID_LENGTH = 12
SECRET_LENGTH = 43  # 62**43 > 2**256
LABEL_LENGTH = 100

_TOKEN = re.compile(rf"gptoss_([A-Za-z0-9]{{{ID_LENGTH}}})_[A-Za-z0-9]{{{SECRET_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class Key:
    """What is kept of a key. `digest` is the SHA-256 of the token, 32 bytes."""

    id: str
    team: str
    digest: bytes = field(repr=False)
    created: AwareDatetime
    label: Annotated[str, Field(max_length=LABEL_LENGTH)] = ""
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None
    limits: Limits = UNLIMITED

    @classmethod
    def issue(
        cls,
        team: str,
        *,
        label: str = "",
        expires: datetime | None = None,
        limits: Limits = UNLIMITED,
    ) -> tuple[Self, str]:
        """Make a key. The token is returned beside it, and nowhere else."""
        id = _random(ID_LENGTH)
        token = f"gptoss_{id}_{_random(SECRET_LENGTH)}"
        now = datetime.now(UTC)
        return cls(id, team, _digest(token), now, label, expires, limits=limits), token

    def opens_with(self, token: str) -> bool:
        """Whether `token` is this key's, in time that does not depend on where they differ."""
        return opens(self.digest, token)

    def is_active(self, now: datetime) -> bool:
        """Neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < self.expires)


def public_id(token: str) -> str | None:
    """The id within a token, or None for what cannot be a key of ours."""
    match = _TOKEN.fullmatch(token)
    return match[1] if match else None


def opens(digest: bytes, token: str) -> bool:
    """Whether `digest` is of `token`, in time that does not depend on where they differ."""
    return hmac.compare_digest(digest, _digest(token))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
