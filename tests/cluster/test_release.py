"""A release of the chart with real vLLM, from its installation to what it leaves behind.

In order, on one release, as an operator would do it: each engine takes a minute to start.
"""

import asyncio
import json
import re
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientTimeout
from helm_python import HelmError

from tests.cluster.kube import Object, condition, name, names, until
from tests.cluster.release import Release
from tests.e2e import loadtests
from tests.e2e.traffic import Load, Outcome, Place, ask
from tests.observability.runbooks import runbooks

MODEL = "gpt-oss-tiny"
PATIENCE = ClientTimeout(total=600)
ONE, TWO = ({"engine": {"pools": {"tiny": {"replicas": count}}}} for count in (1, 2))


@pytest.fixture(scope="module")
def key(release: Release) -> str:
    """Of a team, made as README.md says."""
    release.gptoss("team", "create", "search", "--rpm", "6000", "--tpm", "20M")
    return release.gptoss("key", "create", "search").split()[-1]


@pytest.fixture
def place(release: Release, key: str) -> Place:
    """Where the team asks: the Service."""
    return Place(release.url, key, MODEL)


@pytest.fixture
def load(place: Place) -> Iterator[Load]:
    """Streams all the time."""
    with Load(place, clients=2, tokens=60, pause=1, whole=False) as load:
        load.more(2)
        yield load


def engines(release: Release) -> list[Object]:
    return release.kube.pods(component="engine")


def gateways(release: Release) -> list[Object]:
    return release.kube.pods(component="gateway")


def check(load: Load) -> None:
    """That each stream had all of its tokens and its end."""
    assert not load.failed, load.failed[:3]
    print(f"{len(load.outcomes)} streams, none cut")


def stream(place: Place, tokens: int) -> Outcome:
    """One stream of so many tokens, from a client with patience."""

    async def asked() -> Outcome:
        async with ClientSession(timeout=PATIENCE) as session:
            return await ask(session, place, [{"role": "user", "content": "Count"}], tokens)

    return asyncio.run(asked())


def test_an_installation_without_engines_holds_requests_until_there_is_one(
    release: Release, place: Place
) -> None:
    """As an autoscaler finds it that scales from zero: by the request that it has to serve."""
    assert not engines(release)
    assert all(condition(pod, "Ready")["status"] == "True" for pod in gateways(release))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(stream, place, 10)
        until(lambda: held(release) == 1, 30, "it is held")
        release.upgrade(ONE)
        outcome = waiting.result()
    assert outcome.ok, outcome
    assert held(release) == 0


def test_an_upgrade_is_done_when_engines_answer(release: Release) -> None:
    (engine,) = engines(release)
    assert condition(engine, "Ready")["status"] == "True"
    assert len(gateways(release)) == 2
    assert all(condition(pod, "Ready")["status"] == "True" for pod in gateways(release))
    said = release.kube.run("logs", name(engine), "--container", "engine")
    assert '"POST /v1/chat/completions' in said, "the start-up probe asks before anybody else does"


def test_the_schema_was_brought_up_to_date_once(release: Release) -> None:
    (job,) = release.kube.all("jobs", component="migrate")
    assert job["status"]["succeeded"] == 1
    (pod,) = release.kube.all("pods", component="migrate")
    assert "applied" in release.kube.run("logs", name(pod))


def test_helm_test_gets_a_completion_a_stream_and_a_tool_call(release: Release) -> None:
    said = release.test()
    for each in ("chat completion", "streamed completion", "tool call"):
        assert re.search(f"{each}.* s", said), said
    keys = json.loads(release.gptoss("key", "list", "--team", "selftest", "--json"))
    assert {key["state"] for key in keys} == {"revoked"}, "its key ended with it"


def test_the_commands_of_runbooks_run(release: Release) -> None:
    """As they stand there, for this release: but those that change something, and `top`, which
    asks a metrics server that is not here."""
    lines = sorted({line for runbook in runbooks() for line in runbook.commands})
    tried = [line for line in lines if re.match(r"kubectl (?!.*\b(top|scale|delete)\b)", line)]
    assert len(tried) > 20
    for line in tried:
        _, *words = shlex.split(line.replace("-engine-main", "-engine-tiny"))
        if words[:2] == ["-n", "gptoss"]:
            del words[:2]
        release.kube.run(*words, timeout=180)


def test_pods_have_no_token_of_the_cluster_and_no_root_to_write_to(release: Release) -> None:
    for pods, container in ((engines(release), "engine"), (gateways(release), "gateway")):
        (pod, *_) = pods
        script = "ls /var/run/secrets 2>/dev/null; touch /usr/x 2>&1; id -u; env"
        said = release.kube.exec(name(pod), container, "sh", "-c", script)
        assert "Read-only file system" in said
        assert "\n10001\n" in said
        assert "kubernetes.io" not in said
        assert "GPTOSS_GATEWAY_PORT" not in said, "no service links"


def test_one_more_engine_is_used_as_soon_as_it_is_ready(release: Release, load: Load) -> None:
    before = names(gateways(release))
    release.upgrade(TWO)
    used: set[str] = set()

    def both_were_used() -> bool:
        used.update(address for address, requests in _served(release).items() if requests)
        return len(used) == 2

    until(both_were_used, 120, "both engines in use")
    load.more(8)
    check(load)
    assert names(gateways(release)) == before, "other engines are no reason to start gateways anew"


def test_an_upgrade_of_engines_cuts_no_stream(release: Release, load: Load) -> None:
    before = names(engines(release))
    release.upgrade({"engine": {"pools": {"tiny": {"podAnnotations": {"tests/upgrade": "1"}}}}})
    load.more(8)
    check(load)
    assert not before & names(engines(release))


def test_an_upgrade_of_gateways_cuts_no_stream(release: Release, load: Load) -> None:
    before = names(gateways(release))
    release.upgrade({"gateway": {"podAnnotations": {"tests/upgrade": "1"}}})
    load.more(8)
    check(load)
    assert not before & names(gateways(release))


def test_an_upgrade_that_changes_nothing_restarts_nothing(release: Release) -> None:
    before = names(release.kube.pods())
    secrets = {
        name(one): one["data"]
        for one in release.kube.all("secrets")
        if "gptoss-" in name(one) and one["type"] == "Opaque"
    }
    release.upgrade({})
    assert names(release.kube.pods()) == before
    for each, data in secrets.items():
        assert release.kube.one("secret", each)["data"] == data, "secrets are made once"


def test_autoscaling_that_is_switched_on_leaves_what_runs(release: Release) -> None:
    """A manifest without a number of pods would set it to one, whatever an autoscaler says."""
    if "scaledobjects.keda.sh" not in names(release.kube.all("crds")):
        pytest.skip("this cluster does not know KEDA's objects")
    before, scaling = names(release.kube.pods()), {"autoscaling": {"enabled": True}}
    release.upgrade(
        {
            "keda": {"prometheus": "http://prometheus.monitoring.svc:9090"},
            "gateway": scaling,
            "engine": {"pools": {"tiny": scaling}},
        }
    )
    assert names(release.kube.all("scaledobjects")) == {"gptoss-gateway", "gptoss-engine-tiny"}
    assert names(release.kube.pods()) == before
    scaling["autoscaling"]["enabled"] = False
    release.upgrade({"gateway": scaling, "engine": {"pools": {"tiny": scaling}}})
    assert names(release.kube.pods()) == before


def test_a_pod_that_is_deleted_ends_its_streams_first(release: Release, load: Load) -> None:
    victim, *_ = engines(release)
    until(lambda: _served(release)[victim["status"]["podIP"]], 60, "streams on it")
    release.kube.run("delete", "pod", name(victim), timeout=180)
    load.more(8)
    check(load)


def test_a_broken_image_goes_back_by_itself(release: Release, load: Load) -> None:
    """Also while an engine is just starting: what serves goes on serving."""
    broken = {"engine": {"pools": {"tiny": {"image": {"tag": "broken"}}}}}
    with pytest.raises(HelmError):
        release.upgrade(broken, seconds=150)
    load.more(8)
    check(load)
    assert len(_ready(release)) == 2, "the way back ends when all is well again"
    broken_one, last = release.history()[-2:]
    assert (broken_one["status"], last["status"]) == ("failed", "deployed")


def test_a_load_test_stops_and_kills_pods_and_says_what_that_did(
    release: Release, place: Place, tmp_path: Path
) -> None:
    """From outside, by `kubectl`, under streams. All engines stand still for a moment, which costs
    nobody an answer. Then one of the two is killed, and the other one serves."""
    before, (victim, *_) = names(engines(release)), engines(release)
    release.kube.run("label", "pod", name(victim), "tests/victim=yes")
    document = loadtests.pod_faults(release.kube.namespace, "tests/victim=yes")
    ran = loadtests.run(tmp_path / "run", document, place.url, place.key)
    stop, kill = ran.fault("stop"), ran.fault("kill")
    print(f"{ran.said}\n{stop}\n{kill}")
    assert ran.status == 0, ran.said
    assert not stop.error and not kill.error
    assert stop.ended is not None
    began = [one for one in ran.records if one.scheduled < stop.at + stop.ended]
    until_kill = [one for one in ran.records if one.ended is not None and one.ended < kill.at]
    assert all(one.good for one in until_kill)
    assert max(one.max_gap for one in began) > loadtests.STOPPED - 1, "streams stood still too"
    # A kubelet takes seconds to kill: answers that are shorter end before.
    assert kill.lost == ran.failed(kill)  # before it nothing failed that is usual by now
    assert (kill.detected is None) == (kill.lost == 0 and kill.retried == 0)
    assert kill.recovered is not None
    assert name(victim) not in names(engines(release))
    assert before - {name(victim)} <= names(engines(release)), "nobody else was killed"


def test_one_engine_less_cuts_no_stream(release: Release, load: Load) -> None:
    release.upgrade(ONE)
    until(lambda: len(release.kube.all("pods", component="engine")) == 1, 120)
    load.more(8)
    check(load)


def test_a_pod_that_is_killed_cuts_no_stream_without_a_word(release: Release, place: Place) -> None:
    (victim,) = engines(release)
    with ThreadPoolExecutor() as pool:
        streams = [pool.submit(stream, place, 3000) for _ in range(4)]
        until(lambda: _served(release)[victim["status"]["podIP"]] == 4, 60, "streams on it")
        release.kube.run("delete", "pod", name(victim), "--grace-period=0", "--force", timeout=180)
        outcomes = [stream.result() for stream in streams]
    cut = [outcome for outcome in outcomes if not outcome.ok]
    assert cut
    # One that had no token yet was sent to the engine that came instead.
    assert all(outcome.code and not outcome.broken for outcome in cut), cut
    print(f"{len(cut)} of {len(outcomes)} streams were cut, each with an error event")


def test_an_uninstall_leaves_what_it_says(release: Release) -> None:
    release.uninstall()
    kube = release.kube
    for kind in (
        "deployments",
        "statefulsets",
        "jobs",
        "services",
        "configmaps",
        "networkpolicies",
        "poddisruptionbudgets",
    ):
        left = names(kube.all(kind)) - {"kube-root-ca.crt"}
        assert not left, f"{kind}: {left}"
    assert names(kube.all("secrets")) - _tokens(kube.all("secrets")) == {"gptoss-postgresql"}
    claims = {"weights", "data-gptoss-postgresql-0", "data-gptoss-valkey-0"}
    assert names(kube.all("persistentvolumeclaims")) == claims


def _tokens(secrets: list[Object]) -> set[str]:
    """Of service accounts: an old Kubernetes makes one for each."""
    return {name(one) for one in secrets if one["type"] == "kubernetes.io/service-account-token"}


def held(release: Release) -> int:
    """Requests that gateways hold, by their metrics."""
    script = "import urllib.request as web; print(web.urlopen('http://127.0.0.1:8001/metrics').read().decode())"
    pages = [
        release.kube.exec(name(pod), "gateway", "python", "-c", script) for pod in gateways(release)
    ]
    found = re.findall(r"^gptoss_gateway_queue_held\{.*\} (\S+)$", "\n".join(pages), re.MULTILINE)
    return sum(int(float(number)) for number in found)


def _ready(release: Release) -> list[Object]:
    return [pod for pod in engines(release) if condition(pod, "Ready").get("status") == "True"]


def _served(release: Release) -> dict[str, int]:
    """Requests that the gateways have open at each engine, by its address."""
    open_there = {pod["status"]["podIP"]: 0 for pod in engines(release)}
    for gateway in gateways(release):
        said = release.kube.exec(name(gateway), "gateway", "gptoss", "upstreams", "--json")
        for pool in json.loads(said)["pools"]:
            for replica in pool["replicas"]:
                address = re.sub(r"^http://|:\d+$", "", replica["url"])
                if address in open_there:
                    open_there[address] += replica["in_flight"]
    return open_there
