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
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import AwareDatetime, Field

ALPHABET = string.ascii_letters + string.digits
ID_LENGTH = 12
SECRET_LENGTH = 43  # 62**43 > 2**256

_TOKEN = re.compile(rf"gptoss_([A-Za-z0-9]{{{ID_LENGTH}}})_[A-Za-z0-9]{{{SECRET_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class Key:
    """What is stored of a key. `digest` is the SHA-256 of the token, in hexadecimal."""

    id: str
    team: str
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created: AwareDatetime
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None

    @classmethod
    def issue(cls, team: str, *, expires: datetime | None = None) -> tuple[Self, str]:
        """Make a key. The token is returned beside it, and nowhere else."""
        id = _random(ID_LENGTH)
        token = f"gptoss_{id}_{_random(SECRET_LENGTH)}"
        return cls(id, team, _digest(token), datetime.now(UTC), expires), token

    def opens_with(self, token: str) -> bool:
        """Whether `token` is this key's, in time that does not depend on where they differ."""
        return hmac.compare_digest(self.digest, _digest(token))

    def is_active(self, now: datetime) -> bool:
        """Neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < self.expires)


def public_id(token: str) -> str | None:
    """The id within a token, or None for what cannot be a key of ours."""
    match = _TOKEN.fullmatch(token)
    return match[1] if match else None


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
