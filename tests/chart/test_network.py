"""Who may talk to whom: the rendered policies, evaluated for every pair that matters."""

import pytest

from tests.chart.network import NAMESPACE_NAME, Place, Policies, elsewhere, outside, within
from tests.chart.pods import pods
from tests.chart.render import (
    EVERY_API,
    NAMESPACE,
    Objects,
    overlay,
    overlays,
    render,
    rendered,
    some,
)

every_overlay = pytest.mark.parametrize("name", overlays())

INTERNET = outside("203.0.113.7")
CLIENT = elsewhere("shop", app="search")
PROMETHEUS = elsewhere("monitoring", app="prometheus")
DNS = elsewhere("kube-system", **{"k8s-app": "kube-dns"})
SERVING = {NAMESPACE_NAME: NAMESPACE}
STRANGER = Place("a pod beside the release", "10.20.0.8", SERVING)
OTHER_RELEASE = Place(
    "a gateway of another release",
    "10.20.0.6",
    SERVING,
    {
        "app.kubernetes.io/name": "gptoss",
        "app.kubernetes.io/instance": "other",
        "app.kubernetes.io/component": "gateway",
    },
)
API, OPS, ADMIN, ENGINE, POSTGRESQL, VALKEY = 8000, 8001, 8002, 8100, 5432, 6379


class Net:
    """The places of a render by component, and what may reach what."""

    def __init__(self, objects: Objects) -> None:
        self._policies = Policies(objects)
        self.places = {pod.component: within(pod) for pod in pods(objects)}

    def __getitem__(self, component: str) -> Place:
        return self.places[component]

    def allow(self, source: Place | str, target: Place | str, port: int, how: str = "TCP") -> bool:
        ends = [self.places[end] if isinstance(end, str) else end for end in (source, target)]
        return self._policies.allow(ends[0], ends[1], port, how)


@pytest.fixture(scope="module")
def net() -> Net:
    return Net(rendered("minimal"))


def test_every_kind_of_pod_is_there(net: Net) -> None:
    assert net.places.keys() == {
        *("engine", "gateway", "migrate", "weights", "postgresql", "valkey", "test")
    }


@every_overlay
def test_every_pod_is_under_a_policy_in_both_directions(name: str) -> None:
    objects = rendered(name)
    policies = Policies(objects)
    for pod in pods(objects):
        for direction in ("Ingress", "Egress"):
            assert policies.select(within(pod), direction), f"{pod}: {direction}"


def test_gateways_ask_engines(net: Net) -> None:
    assert net.allow("gateway", "engine", ENGINE)


@pytest.mark.parametrize(
    "source", [CLIENT, STRANGER, OTHER_RELEASE, INTERNET, "test", "migrate", "weights", "valkey"]
)
def test_nobody_else_asks_engines(net: Net, source: Place | str) -> None:
    assert not net.allow(source, "engine", ENGINE)


@pytest.mark.parametrize(("component", "port"), [("engine", ENGINE), ("gateway", OPS)])
def test_the_monitoring_reads_metrics(net: Net, component: str, port: int) -> None:
    assert net.allow(PROMETHEUS, component, port)
    assert not net.allow(CLIENT, component, port)
    assert not net.allow(elsewhere("monitoring-of-others"), component, port)


def test_the_monitoring_asks_nothing_else(net: Net) -> None:
    assert not net.allow(PROMETHEUS, "gateway", ADMIN)
    assert not net.allow(PROMETHEUS, "postgresql", POSTGRESQL)
    assert not net.allow(PROMETHEUS, "valkey", VALKEY)


@pytest.mark.parametrize("source", ["gateway", "migrate", "test"])
def test_what_keeps_teams_and_keys_asks_the_database(net: Net, source: str) -> None:
    assert net.allow(source, "postgresql", POSTGRESQL)


@pytest.mark.parametrize("source", ["engine", "weights", CLIENT, STRANGER, OTHER_RELEASE])
def test_nobody_else_asks_a_store(net: Net, source: Place | str) -> None:
    assert not net.allow(source, "postgresql", POSTGRESQL)
    assert not net.allow(source, "valkey", VALKEY)


def test_only_gateways_count(net: Net) -> None:
    assert net.allow("gateway", "valkey", VALKEY)
    assert not any(net.allow(source, "valkey", VALKEY) for source in ("migrate", "test"))


def test_the_job_fetches_from_the_hub(net: Net) -> None:
    assert net.allow("weights", INTERNET, 443)
    assert not net.allow("weights", INTERNET, 22)


@pytest.mark.parametrize("source", ["engine", "postgresql", "valkey", "gateway", "test", "migrate"])
@pytest.mark.parametrize("port", [80, 443, 8443])
def test_nobody_else_gets_out(net: Net, source: str, port: int) -> None:
    assert not net.allow(source, INTERNET, port)


@pytest.mark.parametrize("source", ["engine", "gateway", "migrate", "weights", "test"])
@pytest.mark.parametrize("how", ["UDP", "TCP"])
def test_who_asks_by_name_asks_the_dns(net: Net, source: str, how: str) -> None:
    assert net.allow(source, DNS, 53, how)


@pytest.mark.parametrize("source", [CLIENT, STRANGER, "test"])
def test_clients_use_the_api(net: Net, source: Place | str) -> None:
    assert net.allow(source, "gateway", API)


@pytest.mark.parametrize("source", [CLIENT, STRANGER, "test", "engine", INTERNET])
@pytest.mark.parametrize("port", [OPS, ADMIN])
def test_clients_use_nothing_else_of_it(net: Net, source: Place | str, port: int) -> None:
    assert not net.allow(source, "gateway", port)


@pytest.mark.parametrize("target", ["migrate", "weights", "test"])
def test_nobody_asks_a_command_anything(net: Net, target: str) -> None:
    assert not net.allow("gateway", target, 80)
    assert not net.allow(CLIENT, target, 8000)


@every_overlay
def test_the_test_reaches_the_api_and_gateways_reach_engines_always(name: str) -> None:
    net = Net(rendered(name))
    assert net.allow("test", "gateway", API)
    assert net.allow("gateway", "engine", ENGINE)


def test_named_clients_are_the_only_ones() -> None:
    net = Net(rendered("existing-stores"))
    chosen = Place("x", "10.20.0.9", {"gptoss/client": "true"}, {})
    assert net.allow(chosen, "gateway", API)
    assert net.allow("test", "gateway", API)
    assert not net.allow(CLIENT, "gateway", API)
    assert net.allow(elsewhere("platform"), "gateway", ADMIN)
    assert not net.allow(chosen, "gateway", ADMIN)


def test_stores_of_others_are_asked_where_they_are() -> None:
    net = Net(rendered("existing-stores"))
    databases = elsewhere("databases")
    for source in ("gateway", "migrate", "test"):
        assert net.allow(source, databases, 5433)
    assert net.allow("gateway", databases, 6380)
    for source in ("gateway", "migrate", "test"):
        assert not net.allow(source, elsewhere("elsewhere"), 5433)
    assert not net.allow("engine", databases, 5433)
    assert net.allow("gateway", elsewhere("sso"), 8443)
    assert not net.allow("gateway", INTERNET, 8443)


def test_stores_may_be_anywhere_if_nobody_says_where() -> None:
    net = Net(rendered("one-h100"))
    assert net.allow("gateway", INTERNET, POSTGRESQL)
    assert net.allow("gateway", INTERNET, VALKEY)
    assert not net.allow("gateway", INTERNET, 443)
    assert not net.allow("engine", INTERNET, POSTGRESQL)


def test_a_hub_can_be_the_only_one() -> None:
    hub = [{"ipBlock": {"cidr": "192.0.2.0/24"}}]
    net = Net(render(overlay("minimal", networkPolicy={"hub": hub}), apis=EVERY_API))
    assert net.allow("weights", outside("192.0.2.9"), 443)
    assert not net.allow("weights", INTERNET, 443)


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("https://hub.internal", 443),
        ("http://hub.internal:8080", 8080),
        ("http://hub.internal", 80),
    ],
)
def test_a_hub_of_ones_own_is_asked_at_its_port(endpoint: str, port: int) -> None:
    net = Net(render(overlay("minimal", weights={"endpoint": endpoint}), apis=EVERY_API))
    assert net.allow("weights", outside("192.0.2.9"), port)


TRACING = {"tracing": {"endpoint": "http://collector.monitoring.svc:4318"}}
COLLECTOR = elsewhere("monitoring", app="collector")


def test_without_a_collector_of_traces_none_is_asked(net: Net) -> None:
    assert not net.allow("gateway", COLLECTOR, 4318)


def test_gateways_alone_ask_the_collector_of_traces_and_at_its_port() -> None:
    net = Net(render(overlay("minimal", **TRACING), apis=EVERY_API))
    assert net.allow("gateway", COLLECTOR, 4318)
    assert not net.allow("gateway", COLLECTOR, 4317)
    for source in net.places.keys() - {"gateway"}:
        assert not net.allow(source, COLLECTOR, 4318)


def test_a_collector_of_traces_can_be_the_only_one() -> None:
    place = [{"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: "monitoring"}}}]
    values = overlay("minimal", **TRACING, networkPolicy={"collector": place})
    net = Net(render(values, apis=EVERY_API))
    assert net.allow("gateway", COLLECTOR, 4318)
    assert not net.allow("gateway", INTERNET, 4318)


def test_a_collector_of_traces_without_a_port_is_asked_at_that_of_https() -> None:
    values = overlay("minimal", tracing={"endpoint": "https://traces.example.com/otlp"})
    assert Net(render(values, apis=EVERY_API)).allow("gateway", INTERNET, 443)


def test_policies_can_be_left_to_others() -> None:
    values = overlay("minimal", networkPolicy={"enabled": False})
    assert not some(render(values, apis=EVERY_API), "NetworkPolicy")


def test_no_monitoring_is_nobody_and_not_everybody() -> None:
    net = Net(render(overlay("minimal", networkPolicy={"monitoring": []}), apis=EVERY_API))
    assert not net.allow(CLIENT, "engine", ENGINE)
    assert not net.allow(CLIENT, "gateway", OPS)
    assert net.allow("gateway", "engine", ENGINE)


@every_overlay
def test_a_policy_names_ports_by_number(name: str) -> None:
    """OVN-Kubernetes takes a port's name for every port there is (ovn-kubernetes#2117)."""
    for policy in some(rendered(name), "NetworkPolicy"):
        rules = [*policy.spec.get("ingress", []), *policy.spec.get("egress", [])]
        for port in (port for rule in rules for port in rule.get("ports", [])):
            assert isinstance(port["port"], int), f"{policy}: {port}"
