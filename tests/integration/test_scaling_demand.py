"""What the chart's autoscaling goes by, asked of a real Prometheus about a real gateway.

KEDA asks the same expressions; itself it cannot be had here.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chart.render import NAMESPACE, one, rendered
from tests.integration.fleet import Fleet, Gateway, Replica, until, upstreams
from tests.integration.test_replica_faults import alone
from tests.servers.prometheus import PROGRAM, Prometheus, Target

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Debian's package prometheus")

POOL = "main"
JOB = f"{NAMESPACE}/gptoss-gateway"  # as the chart's PodMonitor names it


def _query(component: str, trigger: str) -> str:
    """Of a trigger in the chart's overlay for KEDA."""
    scaler = one(rendered("keda"), "ScaledObject", component=component)
    (found,) = [each for each in scaler.spec["triggers"] if each.get("name") == trigger]
    assert found["metadata"]["ignoreNullValues"] == "false", "no answer is not nothing"
    return str(found["metadata"]["query"])


DEMAND, QUEUE = _query("engine", "demand"), _query("engine", "engine-queue")
STREAMS = _query("gateway", "open-streams")


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    with Replica(tmp_path / "replica") as replica:
        replica.wait()
        yield replica


@pytest.fixture
def own(replica: Replica, tmp_path: Path) -> Iterator[Fleet]:
    """A gateway that holds requests while its one engine is away."""
    settings = {
        "GPTOSS_GATEWAY__UPSTREAMS": upstreams([replica], pool=POOL),
        "GPTOSS_GATEWAY__MODELS": '{"tiny": {"pools": {"main": 100}}}',
        "GPTOSS_ROUTING__HOLD": "60",
    }
    with alone(tmp_path / "gateway", settings, [replica]) as own:
        yield own


@pytest.fixture
def prometheus(own: Fleet, tmp_path: Path) -> Iterator[Prometheus]:
    (gateway,) = own.gateways
    target = Target(
        gateway.ops.removeprefix("http://"), {"namespace": NAMESPACE, "job": JOB, "pod": "one"}
    )
    with Prometheus(tmp_path / "prometheus", [target]) as prometheus:
        until(lambda: prometheus.value(DEMAND) is not None)
        yield prometheus


def test_a_request_for_an_engine_that_is_not_there_is_demand(
    own: Fleet, replica: Replica, prometheus: Prometheus
) -> None:
    (gateway,) = own.gateways
    until(lambda: prometheus.value(DEMAND) == 0)
    until(lambda: prometheus.value(QUEUE) == 0)  # without an engine nothing waits in one
    replica.kill()
    until(lambda: not gateway.pool(POOL)["works"])
    with own.load(clients=3) as load:
        until(lambda: prometheus.value(DEMAND) == 3)
        until(lambda: prometheus.value(STREAMS) == 3)
        replica.start()
        load.more(6)
    assert not load.failed
    until(lambda: prometheus.value(DEMAND) == 0)


def test_a_gateway_that_cannot_be_asked_is_no_sign_that_nobody_asks(
    own: Fleet, prometheus: Prometheus
) -> None:
    """An answer of 0 would scale down; none makes KEDA keep what runs."""
    gateway: Gateway = own.gateways[0]
    gateway.kill()
    until(lambda: prometheus.value(DEMAND) is None)
    assert prometheus.value(STREAMS) is None
