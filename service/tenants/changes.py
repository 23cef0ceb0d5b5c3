"""What changed in the directory, for the snapshots of it."""

from dataclasses import dataclass
from datetime import datetime

import msgspec

from service.quota.limits import Limits
from service.tenants.team import Team


class Credential(msgspec.Struct, frozen=True, gc=False):
    """What it takes of a key to let a request in; there are very many, so that it is lean.

    `digest` is the SHA-256 of the token. It holds no reference that could be a cycle: the garbage
    collector need not visit it.
    """

    id: str
    team: str
    digest: bytes
    expires: datetime | None
    revoked: bool
    limits: Limits


@dataclass(frozen=True, slots=True)
class Changes:
    """What came up to `revision`; where `complete`, it is all there is, and the rest is gone."""

    revision: int
    complete: bool
    teams: list[Team]
    gone_teams: list[str]
    keys: list[Credential]
