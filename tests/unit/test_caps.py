"""The narrowest of a key's, a team's and a team's limits on a model is what counts."""

from service.gateway.caps import Caps, may_use, scopes_of
from service.quota.limits import UNLIMITED, Effort, Limits, Tier
from service.tenants.principal import Principal
from service.tenants.team import Team


def principal(key: Limits = UNLIMITED, team: Limits = UNLIMITED, **more: object) -> Principal:
    return Principal("abc", Team("search", limits=team, **more), key)  # type: ignore[arg-type]


def caps(who: Principal) -> Caps:
    return Caps.of(who, scopes_of(who, "big"))


def test_a_request_counts_for_its_key_its_team_and_its_team_on_the_model() -> None:
    who = principal(Limits(rpm=1), Limits(rpm=2), model_limits={"big": Limits(rpm=3)})
    assert [(scope.name, scope.limits.rpm) for scope in scopes_of(who, "big")] == [
        ("key:abc", 1),
        ("team", 2),
        ("model:big", 3),
    ]


def test_the_smallest_cap_counts() -> None:
    who = principal(
        Limits(max_output=300),
        Limits(max_output=200, max_context=900),
        model_limits={"big": Limits(max_output=100), "small": Limits(max_output=1)},
    )
    assert (caps(who).max_output, caps(who).max_context) == (100, 900)


def test_only_efforts_that_all_allow_remain() -> None:
    both = Limits(efforts=(Effort.HIGH, Effort.LOW))
    who = principal(both, Limits(efforts=(Effort.LOW, Effort.MEDIUM)))
    assert caps(who).efforts == (Effort.LOW,)
    assert caps(principal()).efforts is None


def test_efforts_without_a_common_one_leave_the_lowest() -> None:
    who = principal(Limits(efforts=(Effort.HIGH,)), Limits(efforts=(Effort.MEDIUM,)))
    assert caps(who).efforts == (Effort.MEDIUM,)


def test_a_model_must_be_allowed_by_key_and_team() -> None:
    who = principal(Limits(models=("big", "small")), Limits(models=("big",)))
    assert may_use(who, "big")
    assert not may_use(who, "small")
    assert may_use(principal(), "anything")


def test_the_tier_decides_the_priority_and_the_default_has_none() -> None:
    assert caps(principal()).priority == 0
    interactive, batch = (
        caps(principal(tier=tier)).priority for tier in (Tier.INTERACTIVE, Tier.BATCH)
    )
    assert interactive < 0 < batch  # vLLM serves the lower first


def test_the_salt_of_a_team_is_used_unless_it_shares_its_cache() -> None:
    alone, shared = principal(), principal(isolate_cache=False)
    assert caps(alone).cache_salt == alone.team.cache_salt
    assert caps(shared).cache_salt is None
    assert len({Team("a").cache_salt, Team("b").cache_salt}) == 2
