"""The gateway would start: what the chart gives it are settings that it takes."""

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from service import address, settings
from tests.chart.pods import Pod, pod, pods
from tests.chart.render import EVERY_API, Object, Objects, overlay, overlays, render, rendered, some

every_overlay = pytest.mark.parametrize("name", overlays())

# What an existing Secret would hold.
PLACEHOLDERS = {
    "GPTOSS_DATABASE__URL": "postgresql://user:password@postgresql.databases:5432/gptoss",
    "GPTOSS_QUOTA__URL": "redis://:password@valkey.databases:6379",
    "GPTOSS_GATEWAY__ENGINE_KEY": "an-engine-key-of-0123456789-abcdefghij",
    "GPTOSS_ADMIN__TOKEN": "an-admin-token-of-0123456789-abcdefgh",
    "GPTOSS_TELEMETRY__OTLP_HEADERS": "authorization=Bearer%20abc",
}
CONFIG = "/etc/gptoss/gptoss.yaml"


class Start:
    """Loads the gateway's settings as its container would."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._patch = patch

    def __call__(self, objects: Objects) -> settings.Settings:
        gateway = pod(objects, "gateway")
        env = environment(gateway, objects)
        assert env["GPTOSS_CONFIG"] == CONFIG
        path = self._folder / "gptoss.yaml"
        path.write_text(mounted(gateway, objects, CONFIG))
        clear(self._patch)
        for name, value in {**env, "GPTOSS_CONFIG": str(path)}.items():
            self._patch.setenv(name, value)
        return settings.load()


def clear(patch: pytest.MonkeyPatch) -> None:
    """No setting but those that a test gives."""
    for name in list(os.environ):
        if name.startswith("GPTOSS_"):
            patch.delenv(name)


def environment(of: Pod, objects: Objects) -> dict[str, str]:
    """The variables of its main container, those from Secrets too."""
    secrets = {one.name: one for one in some(objects, "Secret")}
    found = dict(of.main.env)
    for variable in of.main.variables:
        reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
        if reference:
            secret = secrets.get(reference["name"])
            found[variable["name"]] = (
                base64.b64decode(secret.body["data"][reference["key"]]).decode()
                if secret
                else PLACEHOLDERS[variable["name"]]
            )
    return found


def mounted(of: Pod, objects: Objects, path: str) -> str:
    """What a file of a ConfigMap holds, at a path in the main container."""
    (mount,) = [m for m in of.main.body["volumeMounts"] if path.startswith(m["mountPath"] + "/")]
    volume: Mapping[str, Any] = of.volumes[mount["name"]]
    (found,) = [m for m in some(objects, "ConfigMap") if m.name == volume["configMap"]["name"]]
    return str(found.body["data"][path.removeprefix(mount["mountPath"] + "/")])


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    return Start(tmp_path, monkeypatch)


def _engine_services(objects: Objects) -> dict[str, Object]:
    return {one.name: one for one in some(objects, "Service", component="engine")}


@every_overlay
def test_the_settings_are_taken(name: str, start: Start) -> None:
    loaded = start(rendered(name))
    assert loaded.gateway.upstreams
    assert loaded.database_url.startswith("postgresql")
    assert loaded.quota.url.get_secret_value().startswith("redis")
    assert loaded.admin.token.get_secret_value()


@every_overlay
def test_every_upstream_is_the_service_of_a_pool_at_its_port(name: str, start: Start) -> None:
    objects = rendered(name)
    services = _engine_services(objects)
    loaded = start(objects)
    hosts = set()
    for upstream in loaded.gateway.upstreams:
        found = address.parse(upstream.url)
        assert found.kind is address.Kind.DNS
        service, namespace, rest = found.host.split(".", 2)
        assert (namespace, rest) == ("serving", "svc.cluster.local."), "without search domains"
        assert found.port in {port["port"] for port in services[service].spec["ports"]}
        hosts.add(service)
    assert hosts == services.keys(), "a pool without an upstream would stand idle"


@every_overlay
def test_every_pool_is_asked_by_the_name_of_its_model(name: str, start: Start) -> None:
    loaded = start(rendered(name)).gateway
    pools = {upstream.pool: upstream.model for upstream in loaded.upstreams}
    given = overlay(name)["engine"]["pools"]
    assert pools == {pool: values["model"] for pool, values in given.items()}
    for model, served in loaded.models.items():
        assert all(pools[pool] == model for pool in served.pools)
    weights = {p: w for served in loaded.models.values() for p, w in served.pools.items()}
    assert weights == {pool: values.get("weight", 100) for pool, values in given.items()}


def test_a_canary_gets_its_share_and_a_fallback_is_known(start: Start) -> None:
    models = start(rendered("canary")).gateway.models
    assert models["gpt-oss-120b"].pools == {"stable": 95, "canary": 5}
    assert models["gpt-oss-120b"].fallback == "gpt-oss-20b"
    assert models["gpt-oss-20b"].pools == {"small": 100}


def test_what_only_one_engine_can_take_is_divided_by_the_gateways(start: Start) -> None:
    upstream, *_ = start(rendered("one-h100")).gateway.upstreams
    assert upstream.slots == 64 / 2
    given = {"pools": {"main": {"slots": 7}}}
    upstream, *_ = start(render(overlay("one-h100", engine=given))).gateway.upstreams
    assert upstream.slots == 7


def test_gateways_know_how_many_they_are(start: Start) -> None:
    assert start(rendered("eight-h100")).quota.gateways == 3
    assert start(rendered("keda")).quota.gateways == 2


def test_what_is_held_is_what_the_values_say(start: Start) -> None:
    assert start(rendered("keda")).routing.hold == 600
    assert start(rendered("minimal")).routing.hold == 0


@every_overlay
def test_it_listens_where_its_probes_and_its_service_ask(name: str, start: Start) -> None:
    objects = rendered(name)
    gateway = pod(objects, "gateway")
    loaded = start(objects)
    listened = {
        "api": (loaded.gateway.host, loaded.gateway.port),
        "ops": (loaded.gateway.ops_host, loaded.gateway.ops_port),
        "admin": (loaded.admin.host, loaded.admin.port),
    }
    assert {name: port for name, (_, port) in listened.items()} == gateway.ports
    assert {host for host, _ in listened.values()} == {"0.0.0.0"}  # noqa: S104


def test_it_listens_on_ipv6_where_there_is_nothing_else(start: Start) -> None:
    loaded = start(render(overlay("minimal", listen="::")))
    assert {loaded.gateway.host, loaded.gateway.ops_host, loaded.admin.host} == {"::"}


@pytest.mark.parametrize("seconds", [600, 3600, 86_400])
def test_whatever_request_time_the_values_take_the_gateway_takes(
    seconds: int, start: Start
) -> None:
    values = overlay("minimal", gateway={"requestSeconds": seconds})
    assert start(render(values)).gateway.total_timeout == seconds


@every_overlay
def test_a_setting_of_the_values_reaches_the_gateway(name: str, start: Start) -> None:
    more = {"env": {"GPTOSS_GATEWAY__MAX_CHOICES": "3"}}
    assert start(render(overlay(name, gateway=more), apis=EVERY_API)).gateway.max_choices == 3


@every_overlay
def test_nothing_is_traced_unless_a_collector_is_named(name: str, start: Start) -> None:
    assert not start(rendered(name)).telemetry.otlp_endpoint


def test_a_collector_of_traces_is_known(start: Start) -> None:
    tracing = {"endpoint": "http://collector:4318", "sample": 0.05, "headersSecret": "collector"}
    telemetry = start(render(overlay("minimal", tracing=tracing))).telemetry
    assert telemetry.otlp_endpoint == "http://collector:4318"
    assert telemetry.sample == 0.05
    assert telemetry.otlp_header_fields == {"authorization": "Bearer abc"}


@every_overlay
def test_other_pools_restart_no_gateway(name: str) -> None:
    """Gateways follow the file, so nothing of it is in the pod's template."""
    more = {"pools": {"another": {"profile": "h200", "model": "gpt-oss-20b"}}}
    images = {"gpt-oss-20b": {"repository": "r/x", "digest": f"sha256:{'1' * 64}"}}
    weights: dict[str, Any] = {"images": images} if name == "weights-image" else {"size": "100Gi"}
    weights["accessModes"] = ["ReadWriteMany"]
    before, after = (
        pod(render(values, apis=EVERY_API), "gateway").spec
        for values in (overlay(name), overlay(name, engine=more, weights=weights))
    )
    assert before == after


@every_overlay
def test_the_file_is_not_mounted_in_a_way_that_never_changes(name: str) -> None:
    for gateway in pods(rendered(name), "gateway"):
        for mount in gateway.main.body["volumeMounts"]:
            assert "subPath" not in mount


@every_overlay
def test_the_config_map_holds_no_secret(name: str) -> None:
    for one in some(rendered(name), "ConfigMap", component="gateway"):
        for file, text in one.body["data"].items():
            if file.endswith(".yaml") and "gateway:" in text:
                held = yaml.safe_load(text)
                assert held.keys() <= {"gateway", "quota"}
                assert held["gateway"].keys() <= {"upstreams", "models"}
                assert held.get("quota", {}).keys() <= {"gateways"}
