"""Who a request is from."""

from dataclasses import dataclass

from service.quota.limits import Limits
from service.tenants.team import Team


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    `id` is the public id of its key, or `sso:` and twelve hexadecimal digits for a person who came
    by single sign-on. `limits` are its own, beside those of its team.
    """

    id: str
    team: Team
    limits: Limits
