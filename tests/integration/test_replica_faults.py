"""Replicas are killed, stopped, restarted and misbehave under load: what clients notice of it.

Two gateways on one Redis and one PostgreSQL, three replicas. The same in all tests: a request fails
only if a part of its answer was out already, by an explicit error event, and on the replica that
is at fault; nothing takes longer than the timeouts allow; and afterwards nothing is counted as
open, in the gateways or in the quota store.
"""

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from service.quota.limits import Limits
from service.settings import DatabaseSettings, Settings
from service.tenants.team import Team
from tests.integration import fleet as lengths
from tests.integration.fleet import Fleet, Gateway, Replica, until, upstreams
from tests.integration.load import Load, Outcome
from tests.office import Office
from tests.process import free_port
from tests.servers.dns import DNS, Behaviour
from tests.servers.postgres import Postgres
from tests.servers.redis import Redis
from tests.servers.replica import BEFORE_FULL, Mode

# Everything is counted and reserved, and nothing is ever refused.
LIMITS = Limits(rpm=1_000_000, tpm=100_000_000, concurrency=1000, daily_tokens=10**9)
NAME = "engines.test"

Report = Callable[[str], None]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    home = tmp_path_factory.mktemp("fleet")
    with contextlib.ExitStack() as stack:
        replicas = [stack.enter_context(Replica(home / f"replica-{number}")) for number in range(3)]
        redis, postgres = stack.enter_context(Redis()), stack.enter_context(Postgres())
        database = postgres.database()
        office = Office(
            Settings(database=DatabaseSettings.model_validate({"url": database})), upgrade=True
        )
        office.add_team(Team("tests", limits=LIMITS))
        _, key = office.add_key("tests")
        settings = {
            "GPTOSS_GATEWAY__UPSTREAMS": upstreams(replicas),
            "GPTOSS_DATABASE__URL": database,
            "GPTOSS_QUOTA__URL": redis.url,
            "GPTOSS_QUOTA__LEASE": str(lengths.LEASE),
            # Long: what is in the ledger after a gateway's end was written by its end.
            "GPTOSS_LEDGER__FLUSH": "60",
        }
        gateways = [
            stack.enter_context(Gateway(home / f"gateway-{number}", settings))
            for number in range(2)
        ]
        for process in (*replicas, *gateways):
            process.wait()
        yield Fleet(replicas, gateways, office, key)


@pytest.fixture(autouse=True)
def whole(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test finds all replicas up and well, and leaves nothing open and nothing unforeseen."""
    if "fleet" not in request.fixturenames:
        yield
        return
    fleet: Fleet = request.getfixturevalue("fleet")
    for replica in fleet.replicas:
        fleet.until_back(replica)
    yield
    for replica in fleet.replicas:
        replica.behave(Mode.WELL)
    fleet.until_idle()
    for gateway in fleet.gateways:
        assert "Traceback" not in gateway.log.read_text()


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Report:
    """Says what was measured: `pytest -rP` shows it."""

    def say(text: str) -> None:
        print(text)  # noqa: T201
        record_property("measured", text)

    return say


def check(load: Load, at_fault: Iterable[Replica] = (), codes: Iterable[str] = ()) -> int:
    """What holds in all tests. Returns how many failed."""
    addresses, allowed = {replica.address for replica in at_fault}, set(codes)
    for outcome in load.failed:
        # Its first tokens were out, it was a stream, and it ended with an error event.
        assert outcome.streamed and outcome.tokens, outcome
        assert outcome.replica in addresses, outcome
        assert outcome.code in allowed, outcome
    assert not any(outcome.mixed for outcome in load.outcomes)
    hung = [outcome for outcome in load.outcomes if outcome.seconds > lengths.LONGEST]
    assert not hung
    assert not any(outcome.passed_on for outcome in load.outcomes)
    return len(load.failed)


def test_a_replica_that_is_killed(fleet: Fleet, report: Report) -> None:
    dead = fleet.replicas[0]
    with fleet.load() as load:
        dead.until_midway()
        dead.kill()
        avoided = fleet.until_avoided(dead)
        load.more(24)
        dead.start()
        back = fleet.until_back(dead)
        load.more(12)
    failed = check(load, [dead], ["engine_disconnected"])
    assert failed > 0
    assert avoided < lengths.CHECKED_OUT + lengths.BUSY
    assert back < lengths.BACK_IN + lengths.BUSY
    report(
        f"kill -9: {failed} of {len(load.outcomes)} requests failed; avoided after {avoided:.2f} s,"
        f" back {back:.2f} s after it answered"
    )


def test_a_replica_that_is_stopped_and_goes_on(fleet: Fleet, report: Report) -> None:
    frozen = fleet.replicas[1]
    with fleet.load() as load:
        frozen.until_midway()
        frozen.signal(signal.SIGSTOP)
        avoided = fleet.until_avoided(frozen)
        load.more(24)
        frozen.signal(signal.SIGCONT)
        back = fleet.until_back(frozen)
        load.more(12)
    failed = check(load, [frozen], ["engine_timeout"])
    assert failed > 0
    assert avoided < lengths.CHECKED_OUT + lengths.BUSY
    assert back < lengths.BACK_IN + lengths.BUSY
    report(
        f"SIGSTOP: {failed} of {len(load.outcomes)} requests failed; avoided after {avoided:.2f} s,"
        f" back {back:.2f} s after SIGCONT"
    )


def test_a_replica_that_restarts_in_order_fails_nothing(fleet: Fleet, report: Report) -> None:
    restarting = fleet.replicas[2]
    with fleet.load() as load:
        restarting.until_midway()
        began = time.monotonic()
        assert restarting.terminate() == 0
        took = time.monotonic() - began
        load.more(20)
        restarting.start()
        back = fleet.until_back(restarting)
        load.more(20)
    assert check(load) == 0
    assert took < lengths.DRAIN
    report(
        f"restart: none of {len(load.outcomes)} requests failed; drained in {took:.2f} s, back"
        f" {back:.2f} s after it answered"
    )


def test_a_replica_that_accepts_and_never_answers(fleet: Fleet, report: Report) -> None:
    silent = fleet.replicas[0]
    with fleet.load() as load:
        load.more(20)
        silent.behave(Mode.SILENT)
        avoided = fleet.until_avoided(silent)
        seen = silent.requests
        load.more(24)
        trials = silent.requests - seen
        silent.behave(Mode.WELL)
        back = fleet.until_back(silent)
        load.more(12)
    assert check(load) == 0
    assert avoided < lengths.FAILURES * lengths.RESPONSE + lengths.BUSY
    assert trials < 20
    report(
        f"never answers: none of {len(load.outcomes)} requests failed; avoided after"
        f" {avoided:.2f} s, then {trials} of 24 on trial, back after {back:.2f} s"
    )


def test_an_engine_that_stands_still(fleet: Fleet, report: Report) -> None:
    """Its `/health` is good, and its streams get comments."""
    stalled = fleet.replicas[1]
    with fleet.load() as load:
        stalled.until_midway()
        stalled.behave(Mode.STALL)
        avoided = fleet.until_avoided(stalled)
        load.more(24)
        stalled.behave(Mode.WELL)
        back = fleet.until_back(stalled)
        load.more(12)
    failed = check(load, [stalled], ["engine_timeout"])
    assert failed > 0
    # Whichever comes first: the counters, or requests that time out.
    assert avoided < lengths.STALL + lengths.FIRST_EVENT + 2 * lengths.INTERVAL + lengths.BUSY
    report(
        f"stall: {failed} of {len(load.outcomes)} requests failed; avoided after {avoided:.2f} s,"
        f" back after {back:.2f} s"
    )


def test_a_replica_that_cuts_streams(fleet: Fleet, report: Report) -> None:
    cutting = fleet.replicas[2]
    with fleet.load() as load:
        cutting.until_midway()
        cutting.behave(Mode.CUT)
        avoided = fleet.until_avoided(cutting)
        load.more(24)
        cutting.behave(Mode.WELL)
        fleet.until_back(cutting)
        load.more(12)
    failed = check(load, [cutting], ["engine_disconnected"])
    assert failed > 0
    report(f"cuts: {failed} of {len(load.outcomes)} requests failed; avoided after {avoided:.2f} s")


def test_a_replica_that_is_slow_gets_less(fleet: Fleet, report: Report) -> None:
    """Conversations stay where their cache is until their replica has twice the others' work and
    a few requests more: with few clients, that is nearly all of them. So here are many."""
    slow, clients = fleet.replicas[0], 90
    with fleet.load(clients=clients, tokens=8, whole=False) as load:
        slow.behave(Mode.SLOW)
        load.more(2 * clients)
        since = load.more(3 * clients)
        answered = [outcome.replica for outcome in load.outcomes[since:]]
    there, total = answered.count(slow.address), len(answered)
    assert check(load) == 0
    assert there / total < 0.8 / 3
    report(f"slow: none of {len(load.outcomes)} requests failed; it got {there} of {total}")


def test_a_replica_whose_queue_is_full_is_passed_over(fleet: Fleet, report: Report) -> None:
    full = fleet.replicas[1]
    with fleet.load() as load:
        load.more(20)
        before = full.requests
        full.behave(Mode.FULL)
        load.more(100)
        refused = full.requests - before
        states = [gateway.states()[full.url] for gateway in fleet.gateways]
    assert check(load) == 0
    assert refused >= BEFORE_FULL
    assert states == ["up", "up"]  # to be full is no fault
    report(f"full: none of {len(load.outcomes)} requests failed; it refused {refused}")


def test_a_brown_out_is_not_amplified(fleet: Fleet, tmp_path: Path, report: Report) -> None:
    """All of them answer 500: the engines get hardly more than what the clients send."""
    ratio, floor = 0.2, 0.5
    settings = {
        "GPTOSS_GATEWAY__UPSTREAMS": upstreams(fleet.replicas),
        "GPTOSS_ROUTING__RETRY_RATIO": str(ratio),
        "GPTOSS_ROUTING__RETRY_FLOOR": str(floor),
    }
    with alone(tmp_path, settings) as own:
        before = sum(replica.requests for replica in fleet.replicas)
        for replica in fleet.replicas:
            replica.behave(Mode.FAIL)
        began = time.monotonic()
        with own.load() as load:
            load.more(120)
        seconds = time.monotonic() - began
        sent = sum(replica.requests for replica in fleet.replicas) - before
        for replica in fleet.replicas:
            replica.behave(Mode.WELL)
        with own.load() as after:
            until(lambda: "up" in own.gateways[0].states().values())
            for replica in fleet.replicas:
                own.until_back(replica)
            recovered = after.new(20)
        own.until_idle()
    asked = len(load.outcomes)
    assert {outcome.code for outcome in load.outcomes} == {"engine_error"}
    assert all(outcome.ok for outcome in recovered)
    assert asked < sent <= asked * (1 + ratio) + floor * (seconds + 10)
    report(f"brown-out: {asked} requests became {sent} ({sent / asked:.2f} times as many)")


@contextlib.contextmanager
def alone(
    home: Path, settings: dict[str, str], replicas: Iterable[Replica] = ()
) -> Iterator[Fleet]:
    """One gateway with a database and counters of its own."""
    office = Office.at(home / "state")
    office.add_team(Team("tests", limits=LIMITS))
    _, key = office.add_key("tests")
    with Gateway(home, settings) as gateway:
        gateway.wait()
        yield Fleet(list(replicas), [gateway], office, key)
        assert "Traceback" not in gateway.log.read_text()


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DNS, Fleet]]:
    """Replicas that are found by a name, at one port of several addresses."""
    home, port = tmp_path_factory.mktemp("named"), free_port()
    with contextlib.ExitStack() as stack:
        dns = stack.enter_context(DNS())
        replicas = [
            stack.enter_context(Replica(home / f"replica-{host}", host=host, port=port))
            for host in ("127.0.0.2", "127.0.0.3", "127.0.0.4")
        ]
        for replica in replicas:
            replica.wait()
        dns.put(NAME, "A", "127.0.0.2")
        upstream = {"model": lengths.MODEL, "url": f"dns+http://{NAME}.:{port}"}
        settings = {
            "GPTOSS_GATEWAY__UPSTREAMS": json.dumps([upstream]),
            "GPTOSS_ROUTING__NAMESERVER": dns.address,
            "GPTOSS_ROUTING__INTERVAL": str(lengths.RESOLVED_EVERY),
        }
        yield dns, stack.enter_context(alone(home / "gateway", settings, replicas))


def test_dns_adds_and_removes_replicas(named: tuple[DNS, Fleet], report: Report) -> None:
    dns, fleet = named
    first, second, third = fleet.replicas
    (gateway,) = fleet.gateways
    dns.put(NAME, "A", "127.0.0.2")
    until(lambda: set(gateway.states()) == {first.url})
    with fleet.load() as load:
        load.more(20)
        dns.put(NAME, "A", "127.0.0.2", "127.0.0.3")
        added = fleet.until_back(second)
        until(lambda: second.requests > 0)
        dns.put(NAME, "A", "127.0.0.4", "127.0.0.3")
        removed = until(lambda: first.url not in gateway.states())
        until(lambda: first.open == 0)  # what it had it finished
        seen = first.requests
        load.more(30)
        assert first.requests == seen
        assert third.requests > 0
    assert check(load) == 0
    fleet.until_idle()
    assert added < 1.1 * lengths.RESOLVED_EVERY + lengths.BUSY
    assert removed < 1.1 * lengths.RESOLVED_EVERY + lengths.BUSY
    report(
        f"DNS: none of {len(load.outcomes)} requests failed; a replica was found after {added:.2f}"
        f" s, and one that was removed got nothing after {removed:.2f} s"
    )


@pytest.mark.parametrize("behaviour", [Behaviour.SERVFAIL, Behaviour.DROP])
def test_dns_that_fails_changes_nothing(
    named: tuple[DNS, Fleet], behaviour: Behaviour, report: Report
) -> None:
    dns, fleet = named
    (gateway,) = fleet.gateways
    dns.put(NAME, "A", "127.0.0.2", "127.0.0.3", "127.0.0.4")
    for replica in fleet.replicas:
        fleet.until_back(replica)
    dead = fleet.replicas[0]
    with fleet.load() as load:
        load.more(10)
        dns.behave(behaviour)
        try:
            until(lambda: bool(gateway.pool()["discovery_errors"]))
            dead.kill()
            avoided = fleet.until_avoided(dead)
            dead.start()
            load.more(20)
            assert len(gateway.states()) == 3
        finally:
            dns.behave(Behaviour.ANSWER)
        until(lambda: not gateway.pool()["discovery_errors"])
    failed = check(load, [dead], ["engine_disconnected"])
    fleet.until_idle()
    assert avoided < lengths.CHECKED_OUT + lengths.BUSY
    report(
        f"DNS {behaviour.value}: {failed} of {len(load.outcomes)} requests failed; a replica that"
        f" died meanwhile was avoided after {avoided:.2f} s"
    )


def test_the_settings_file_adds_a_replica_and_moves_a_canary(
    fleet: Fleet, tmp_path: Path, report: Report
) -> None:
    stable, new, canary = fleet.replicas
    file = tmp_path / "config.yaml"

    def write(replicas: Iterable[Replica], shares: dict[str, float]) -> None:
        places = [(replica, "stable") for replica in replicas] + [(canary, "canary")]
        upstreams = [
            {"model": lengths.MODEL, "url": replica.url, "pool": pool} for replica, pool in places
        ]
        models = {"public": {"pools": shares}}
        file.write_text(json.dumps({"gateway": {"upstreams": upstreams, "models": models}}))

    write([stable], {"stable": 1, "canary": 0})
    with alone(tmp_path, {"GPTOSS_CONFIG": str(file)}) as own, own.load(model="public") as load:
        (gateway,) = own.gateways

        def answered_by(*replicas: Replica) -> bool:
            """By all of these, and by nobody else."""
            at, wanted = time.monotonic(), {replica.address for replica in replicas}
            until(lambda: {one.replica for one in load.outcomes if one.began > at} >= wanted)
            return {one.replica for one in load.new(12)} <= wanted

        assert answered_by(stable)
        write([stable, new], {"stable": 1, "canary": 1})
        added = until(lambda: len(gateway.states("stable")) == 2)
        assert answered_by(stable, new, canary)
        file.write_text("gateway: {upstreams: [{url: nonsense}]}")
        until(lambda: "cannot be used" in gateway.log.read_text())
        assert answered_by(stable, new, canary)
        write([new], {"stable": 0, "canary": 1})
        until(lambda: _shares(gateway) == {"stable": 0, "canary": 1})
        assert answered_by(canary)
    assert check(load) == 0
    assert added < 1 + lengths.BUSY
    report(f"settings: none of {len(load.outcomes)} requests failed; taken up after {added:.2f} s")


def _shares(gateway: Gateway) -> object:
    return gateway.picture()["models"]["public"]["pools"]


def test_a_fallback_stands_in_while_a_pool_is_down(
    fleet: Fleet, tmp_path: Path, report: Report
) -> None:
    small = fleet.replicas[0]
    with Replica(tmp_path / "big") as big:
        big.wait()
        settings = {
            "GPTOSS_GATEWAY__UPSTREAMS": json.dumps(
                [{"model": "big", "url": big.url}, {"model": "small", "url": small.url}]
            ),
            "GPTOSS_GATEWAY__MODELS": json.dumps(
                {"big": {"pools": {"big": 1}, "fallback": "small"}}
            ),
        }
        with alone(tmp_path / "gateway", settings) as own, own.load(model="big") as load:
            (gateway,) = own.gateways
            load.more(20)
            big.kill()
            down = until(lambda: not gateway.pool("big")["works"])
            meanwhile = load.new(16)
            big.start()
            until(lambda: bool(gateway.pool("big")["works"]))
            after = load.new(16)
    for outcome in meanwhile:
        assert outcome.ok and outcome.replica == small.address
        assert outcome.headers["x-gptoss-fallback"] == "small; reason=down"
    for outcome in after:
        assert outcome.ok and outcome.replica == big.address
        assert "x-gptoss-fallback" not in outcome.headers
    # Until the checks have found it down there is nobody else, and it is said at once.
    codes = {outcome.code for outcome in load.failed}
    assert codes <= {"engine_unavailable", "engine_disconnected"}
    assert down < lengths.CHECKED_OUT + lengths.BUSY
    report(f"fallback: stands in after {down:.2f} s; {len(load.failed)} requests failed till then")


def test_requests_are_held_while_the_only_replica_is_away(tmp_path: Path, report: Report) -> None:
    """As while an engine starts of which there was none: they wait, and are answered."""
    with Replica(tmp_path / "replica") as replica:
        replica.wait()
        settings = {"GPTOSS_GATEWAY__UPSTREAMS": upstreams([replica])}
        with alone(tmp_path / "gateway", settings | {"GPTOSS_ROUTING__HOLD": "15"}) as own:
            (gateway,) = own.gateways
            replica.kill()
            until(lambda: not gateway.pool()["works"])
            with own.load(clients=4) as load:
                # What an autoscaler goes by when there is no engine at all.
                until(lambda: gateway.metric("gptoss_gateway_queue_held", pool=lengths.MODEL) == 4)
                assert gateway.is_ready(), "or nobody would send the requests that are held"
                assert load.outcomes == []
                replica.start()
                load.more(12)
    assert not load.failed
    report(f"hold: none of {len(load.outcomes)} requests failed")


def test_requests_that_find_no_replica_are_counted_for_their_pool(tmp_path: Path) -> None:
    with Replica(tmp_path / "replica") as replica:
        replica.wait()
        settings = {"GPTOSS_GATEWAY__UPSTREAMS": upstreams([replica])}
        with alone(tmp_path / "gateway", settings) as own:
            (gateway,) = own.gateways
            replica.kill()
            until(lambda: not gateway.pool()["works"])
            with own.load(clients=2) as load:
                load.more(6)
            counted = gateway.metric("gptoss_gateway_unserved_total", pool=lengths.MODEL)
    assert {outcome.code for outcome in load.outcomes} == {"engine_unavailable"}
    assert counted == len(load.outcomes)


def test_a_flood_of_one_team_holds_another_up_by_one_request(
    fleet: Fleet, tmp_path: Path, report: Report
) -> None:
    """The bound of `service.routing.fair_queue`: a claim of a team that has nothing waiting, and
    owes nothing, is next. So it waits for the next place, behind one such claim at most."""
    tokens, pace, slots, flood = 12, 0.03, 2, 12
    settings = {
        "GPTOSS_GATEWAY__UPSTREAMS": upstreams(fleet.replicas[:1], slots=slots),
    }
    office = Office.at(tmp_path / "state")
    office.add_team(Team("quiet"))
    _, key = office.add_key("quiet")
    with alone(tmp_path, settings) as own:
        (gateway,) = own.gateways
        with own.load(clients=flood, tokens=tokens, whole=False) as flooding:
            flooding.more(flood)
            with Load([gateway.url], key, clients=1, tokens=tokens, whole=False) as quiet:
                quiet.more(4)
                waiting = gateway.pool()["waiting"]
        own.until_idle()
    assert all(outcome.ok for outcome in (*flooding.outcomes, *quiet.outcomes))
    assert waiting >= flood - 2 * slots
    longest = max(outcome.ended - outcome.first for outcome in flooding.outcomes) + pace
    worst = max(outcome.first - outcome.began for outcome in quiet.outcomes)
    usual = sorted(outcome.first - outcome.began for outcome in flooding.outcomes)[flood:]
    flooded = usual[len(usual) // 2]
    assert worst < 2 * longest + 0.5
    assert worst < flooded
    report(
        f"flood: the other team's first token came after {worst:.2f} s at the latest, the flood's"
        f" own after {flooded:.2f} s (median); its requests took up to {longest:.2f} s"
    )


def test_a_gateway_that_is_told_to_end_finishes_its_streams(fleet: Fleet, report: Report) -> None:
    ending, other = fleet.gateways
    with fleet.load() as load:
        load.more(30)
        began = time.monotonic()
        assert ending.terminate() == 0
        took = time.monotonic() - began
        load.more(20)
        written = {record.id for record in fleet.office.ledger()}
        ending.start()
        load.more(20)
    passed_on = sum(outcome.passed_on for outcome in load.outcomes)
    assert len(unseen(load)) <= 1
    assert took < lengths.DRAIN
    assert passed_on > 0
    # Nothing was written before: all of its lines were by its end.
    before = [
        outcome
        for outcome in load.outcomes
        if outcome.gateway == ending.url and outcome.ended < began + took
    ]
    assert len(before) > 4
    assert {outcome.id for outcome in before} <= written
    assert other.is_ready()
    report(
        f"SIGTERM of a gateway: none of {len(load.outcomes)} requests failed, {passed_on} tries"
        f" went to the other one; it ended after {took:.2f} s with {len(before)} lines written"
    )


def test_a_gateway_that_is_killed(fleet: Fleet, report: Report) -> None:
    dead, other = fleet.gateways
    with fleet.load() as load:
        load.more(20)
        dead.kill()
        at = time.monotonic()
        load.more(30)
    for outcome in load.failed:
        assert outcome.gateway == dead.url and outcome.broken, outcome
        assert outcome.ended < at + lengths.BUSY
    assert len(load.failed) <= 12
    # Nobody settles what was open there: the leases run out.
    freed = until(lambda: other.is_idle(fleet.key))
    assert freed < lengths.LEASE + 2 + lengths.BUSY
    dead.start()
    complete = {
        outcome.id for outcome in load.outcomes if outcome.gateway == dead.url and outcome.ok
    }
    assert len(complete) > 4
    assert complete <= {record.id for record in fleet.office.ledger()}
    report(
        f"kill -9 of a gateway: {len(load.failed)} of {len(load.outcomes)} requests failed; their"
        f" reservations were free {freed:.2f} s after the load; {len(complete)} lines were there"
        " after its restart"
    )


def unseen(load: Load) -> list[Outcome]:
    """What failed, all of which has to be what comes in at the very moment at which a gateway
    closes a kept connection, and is seen by nobody: HTTP has no word for that, and clients send it
    again. Of twelve clients one may have that luck each time."""
    closed = {"ServerDisconnectedError", "ClientOSError", "ClientConnectionResetError"}
    assert not [one for one in load.failed if one.broken not in closed or one.status or one.first]
    return load.failed


def test_a_rolling_restart_of_everything_cuts_nothing(fleet: Fleet, report: Report) -> None:
    began = time.monotonic()
    with fleet.load() as load:
        load.more(10)
        for replica in fleet.replicas:
            assert replica.terminate() == 0
            replica.start()
            fleet.until_back(replica)
            load.more(5)
        for gateway in fleet.gateways:
            assert gateway.terminate() == 0
            gateway.start()
            load.more(10)
    lost = unseen(load)
    assert len(lost) <= len(fleet.gateways)
    passed_on = sum(outcome.passed_on for outcome in load.outcomes)
    report(
        f"rolling restart: {len(lost)} of {len(load.outcomes)} requests failed in"
        f" {time.monotonic() - began:.1f} s, {passed_on} tries went to the other gateway"
    )
