"""Traffic arrives: services select the pods that they are meant for, and ports exist."""

from collections.abc import Mapping

import pytest

from tests.chart.pods import Pod, pods
from tests.chart.render import Object, Objects, overlays, rendered, some

every_overlay = pytest.mark.parametrize("name", overlays())


def _selected(selector: Mapping[str, str], objects: Objects) -> list[Pod]:
    return [pod for pod in pods(objects) if pod.has(selector)]


def _has(pod: Pod, port: object) -> bool:
    return port in pod.ports if isinstance(port, str) else port in pod.ports.values()


@every_overlay
def test_a_service_has_the_pods_of_one_component(name: str) -> None:
    objects = rendered(name)
    for service in some(objects, "Service"):
        selected = _selected(service.spec["selector"], objects)
        assert len(selected) == 1, f"{service} selects {list(map(str, selected))}"
        assert selected[0].component == service.component


@every_overlay
def test_a_services_port_is_one_that_its_pods_listen_on(name: str) -> None:
    objects = rendered(name)
    for service in some(objects, "Service"):
        (pod,) = _selected(service.spec["selector"], objects)
        for port in service.spec["ports"]:
            assert _has(pod, port["targetPort"]), f"{service}: {port}"


@every_overlay
def test_an_engines_service_names_every_engine_by_itself(name: str) -> None:
    for service in some(rendered(name), "Service", component="engine"):
        assert service.spec["clusterIP"] == "None"
        assert not service.spec.get("publishNotReadyAddresses")
        for port in service.spec["ports"]:  # a headless Service translates no port
            (pod,) = _selected(service.spec["selector"], rendered(name))
            target = port["targetPort"]
            number = pod.ports[target] if isinstance(target, str) else target
            assert number == port["port"]


@every_overlay
def test_a_probe_asks_a_port_of_its_own_container(name: str) -> None:
    for pod in pods(rendered(name)):
        for container in pod.containers:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                for how in ("httpGet", "tcpSocket", "grpc"):
                    asked = (container.body.get(probe) or {}).get(how)
                    if asked:
                        known = {*container.ports, *container.ports.values()}
                        assert asked["port"] in known, f"{container} {probe}"


@every_overlay
def test_what_serves_says_when_it_is_ready_and_when_it_is_stuck(name: str) -> None:
    for pod in pods(rendered(name)):
        for container in pod.serving:
            if container.ports:
                assert "readinessProbe" in container.body, str(container)
                assert "livenessProbe" in container.body, str(container)


@every_overlay
def test_a_monitor_reads_a_port_of_what_it_selects(name: str) -> None:
    objects = rendered(name)
    for monitor in some(objects, "ServiceMonitor"):
        chosen = [
            service
            for service in some(objects, "Service")
            if monitor.spec["selector"]["matchLabels"].items() <= service.labels.items()
        ]
        assert chosen, f"{monitor} selects nothing"
        for service in chosen:
            names = {port["name"] for port in service.spec["ports"]}
            assert all(one["port"] in names for one in monitor.spec["endpoints"]), str(monitor)
    for monitor in some(objects, "PodMonitor"):
        selected = _monitored(monitor, objects)
        assert selected, f"{monitor} selects nothing"
        for pod in selected:
            for one in monitor.spec["podMetricsEndpoints"]:
                assert one["port"] in pod.ports, f"{monitor}: {pod}"


def _monitored(monitor: Object, objects: Objects) -> list[Pod]:
    selector = monitor.spec["selector"]
    labels = selector.get("matchLabels") or {}
    return [
        pod
        for pod in pods(objects)
        if pod.has(labels)
        and all(
            one["operator"] == "In" and pod.labels.get(one["key"]) in one["values"]
            for one in selector.get("matchExpressions") or ()
        )
    ]


@every_overlay
def test_metrics_of_every_gateway_and_engine_are_read_once(name: str) -> None:
    objects = rendered(name)
    for pod in [*pods(objects, "gateway"), *pods(objects, "engine")]:
        readers = [m for m in some(objects, "PodMonitor") if pod in _monitored(m, objects)]
        assert len(readers) == 1, f"{pod}: {list(map(str, readers))}"


@every_overlay
def test_a_way_in_leads_to_the_gateways_api(name: str) -> None:
    objects = rendered(name)
    for route in some(objects, "Ingress", "HTTPRoute"):
        for rule in route.spec["rules"]:
            if route.kind == "Ingress":
                backends = [path["backend"]["service"] for path in rule["http"]["paths"]]
                ends = [(one["name"], one["port"]) for one in backends]
            else:
                ends = [(one["name"], {"number": one["port"]}) for one in rule["backendRefs"]]
            for service_name, port in ends:
                (service,) = [s for s in some(objects, "Service") if s.name == service_name]
                assert service.component == "gateway"
                (found,) = [
                    one
                    for one in service.spec["ports"]
                    if one["port"] == port.get("number") or one["name"] == port.get("name")
                ]
                (pod,) = pods(objects, "gateway")
                target = found["targetPort"]
                number = pod.ports[target] if isinstance(target, str) else target
                assert number == API_PORT


API_PORT = 8000


@every_overlay
def test_every_port_says_its_protocol(name: str) -> None:
    """Helm 4 applies on the server's side, where a list of ports is a map by port and protocol."""
    objects = rendered(name)
    for service in some(objects, "Service"):
        assert all("protocol" in port for port in service.spec["ports"]), str(service)
    for pod in pods(objects):
        for container in pod.containers:
            assert all("protocol" in port for port in container.body.get("ports", ()))
    for policy in some(objects, "NetworkPolicy"):
        for rule in [*policy.spec.get("ingress", ()), *policy.spec.get("egress", ())]:
            assert all("protocol" in port for port in rule.get("ports", ())), str(policy)
