"""Which pool a request goes to: by name, by weight, and by who stands in."""

import random

import pytest

from service.gateway.destination import Destination, destination, visible
from service.gateway.errors import APIError
from service.quota.limits import UNLIMITED, Limits
from service.routing.catalog import Catalog, Entry
from service.routing.pool import Pool
from service.settings import RoutingSettings
from service.tenants.principal import Principal
from service.tenants.team import Team

LARGE, SMALL = "gpt-oss-120b", "gpt-oss-20b"


def pool(name: str, *, works: bool = True) -> Pool:
    made = Pool(name, name, RoutingSettings(), lambda: 0.0, random.Random(1))
    made.set_members(["http://10.0.0.1:8000"] if works else [], lambda url: 8)
    return made


def principal(*models: str) -> Principal:
    limits = Limits(models=models) if models else UNLIMITED
    return Principal("key", Team("team", limits=limits), UNLIMITED)


def ask(
    pools: dict[str, Pool],
    *,
    full: str = "",
    who: Principal | None = None,
    model: str = LARGE,
    entries: dict[str, Entry] | None = None,
) -> Destination:
    entries = {LARGE: Entry({LARGE: 1.0}, fallback=SMALL)} if entries is None else entries
    catalog = Catalog(entries, pools)
    return destination(catalog, who or principal(), model, 7, lambda pool: pool.name == full)


def both(**works: bool) -> dict[str, Pool]:
    return {
        name: pool(name, works=works.get(key, True))
        for key, name in (("large", LARGE), ("small", SMALL))
    }


def test_a_model_that_works_answers_for_itself() -> None:
    place = ask(both())
    assert (place.model, place.reason, place.headers) == (LARGE, "", [])


def test_its_fallback_answers_while_it_is_down_and_says_so() -> None:
    place = ask(both(large=False))
    assert place.model == place.pool.name == SMALL
    assert place.headers == [(b"x-gptoss-fallback", b"gpt-oss-20b; reason=down")]


def test_its_fallback_answers_while_it_is_full() -> None:
    assert ask(both(), full=LARGE).headers == [(b"x-gptoss-fallback", b"gpt-oss-20b; reason=full")]


@pytest.mark.parametrize("trouble", ["down", "full"])
def test_a_fallback_in_trouble_of_its_own_helps_nobody(trouble: str) -> None:
    pools = both(large=False, small=trouble != "down")
    place = ask(pools, full=SMALL if trouble == "full" else "")
    assert (place.model, place.reason) == (LARGE, "")


def test_a_team_gets_no_fallback_that_it_may_not_use() -> None:
    assert ask(both(large=False), who=principal(LARGE)).model == LARGE


def test_what_is_not_the_callers_is_refused_and_what_is_not_there_unknown() -> None:
    with pytest.raises(APIError) as caught:
        ask(both(), who=principal(SMALL))
    assert caught.value.status == 403
    with pytest.raises(APIError) as caught:
        ask(both(), model="gpt-5")
    assert caught.value.status == 404
    assert LARGE in caught.value.message


def test_pools_behind_a_name_are_no_names_themselves() -> None:
    pools = {name: pool(name) for name in ("stable", "canary", SMALL)}
    entries = {LARGE: Entry({"stable": 95.0, "canary": 5.0})}
    assert visible(Catalog(entries, pools), principal()) == [SMALL, LARGE]
    with pytest.raises(APIError) as caught:
        ask(pools, entries=entries, model="canary")
    assert caught.value.status == 404


def test_a_canary_that_is_down_takes_no_conversation_with_it() -> None:
    pools = {"stable": pool("stable"), "canary": pool("canary", works=False)}
    entries = {LARGE: Entry({"stable": 1.0, "canary": 99.0})}
    assert ask(pools, entries=entries).pool.name == "stable"
