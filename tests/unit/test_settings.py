"""Settings: environment before file before default, and one clear line for a wrong one."""

import json
from pathlib import Path

import pytest

from service import settings
from service.errors import UserError


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("GPTOSS_")]:
        monkeypatch.delenv(name)


def test_the_environment_goes_before_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "gptoss.yaml"
    file.write_text("gateway: {port: 7000, ops_port: 7001}")
    monkeypatch.setenv("GPTOSS_CONFIG", str(file))
    monkeypatch.setenv("GPTOSS_GATEWAY__PORT", "7100")
    gateway = settings.load().gateway
    assert (gateway.port, gateway.ops_port) == (7100, 7001)


def test_upstreams_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "GPTOSS_GATEWAY__UPSTREAMS", '[{"model": "gpt-oss-20b", "url": "http://127.0.0.1:9"}]'
    )
    (upstream,) = settings.load().gateway.upstreams
    assert upstream.model == "gpt-oss-20b"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("GPTOSS_GATEWAY__PORT", "eighty", "gateway.port"),
        ("GPTOSS_GATEWAY__PORT", "70000", "gateway.port"),
        ("GPTOSS_GATEWAY__PROT", "8000", "gateway.prot"),
        ("GPTOSS_GATEWAY__UPSTREAMS", "[", "gateway"),
        ("GPTOSS_GATEWAY__UPSTREAMS", '[{"model": "m", "url": "ftp://x"}]', "gateway.upstreams"),
        ("GPTOSS_GATEWAY__UPSTREAMS", '[{"model": "m", "url": "http://x:99999"}]', "upstreams.0"),
        ("GPTOSS_GATEWAY__UPSTREAMS", '[{"model": "m", "url": "http://a:b@x"}]', "upstreams.0"),
        ("GPTOSS_GATEWAY__UPSTREAMS", '[{"model": "m", "url": "http://:80"}]', "upstreams.0"),
        ("GPTOSS_GATEWAY__ENGINE_KEY", "short", "engine_key has 5 characters"),
        ("GPTOSS_ROUTING__NAMESERVER", "dns.example", "a name server is an IP address"),
        ("GPTOSS_GATEWAY__IDLE_TIMEOUT", "7200", "idle_timeout is longer than total_timeout"),
        ("GPTOSS_DRAIN", "0", "drain"),
        ("GPTOSS_SLO__TTFT", "2.5", "slo.ttft"),
        ("GPTOSS_SLO__TPOT", "3", "slo.tpot"),
        ("GPTOSS_TELEMETRY__TEAMS", "0", "telemetry.teams"),
        ("GPTOSS_TELEMETRY__SAMPLE", "1.1", "telemetry.sample"),
        ("GPTOSS_TELEMETRY__OTLP_ENDPOINT", "collector:4318", "telemetry.otlp_endpoint"),
        ("GPTOSS_TELEMETRY__OTLP_ENDPOINT", "grpc://collector:4317", "write it as http://"),
        ("GPTOSS_TELEMETRY__OTLP_ENDPOINT", "http://a:b@collector", "write it as http://"),
        ("GPTOSS_TELEMETRY__OTLP_ENDPOINT", "http://collector:99999", "write it as http://"),
        ("GPTOSS_TELEMETRY__OTLP_ENDPOINT", "http://collector?token=x", "write it as http://"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as complaint:
        settings.load()
    assert said in str(complaint.value)
    assert "\n" not in str(complaint.value)


POOLS = [
    {"model": "large", "pool": "stable", "url": "http://10.0.0.1:8000"},
    {"model": "large", "pool": "canary", "url": "http://10.0.0.2:8000"},
    {"model": "small", "url": "http://10.0.0.3:8000"},
]


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ({"large": {"pools": {"stabel": 1}}}, "names pool 'stabel', of which no upstream is"),
        ({"large": {"pools": {}}}, "gateway.models.large.pools"),
        ({"large": {"pools": {"stable": 0}}}, "all pools of 'large' have weight 0"),
        ({"large": {"pools": {"stable": -1}}}, "gateway.models.large.pools.stable"),
        ({"large": {"pools": {"stable": 1}, "fallback": "tiny"}}, "fallback 'tiny' of 'large'"),
        ({"large": {"pools": {"stable": 1}, "fallback": "canary"}}, ""),
        ({"large": {"pools": {"stable": 1}, "fallback": "large"}}, "is its own fallback"),
        (
            {"large": {"pools": {"stable": 1, "canary": 1}, "fallback": "canary"}},
            "fallback 'canary' of 'large' is no model",
        ),
        ({"large": {"pools": {"stable": 95, "canary": 5}, "fallback": "small"}}, ""),
    ],
)
def test_models_name_pools_that_are_there(
    monkeypatch: pytest.MonkeyPatch, models: dict[str, object], said: str
) -> None:
    monkeypatch.setenv("GPTOSS_GATEWAY__UPSTREAMS", json.dumps(POOLS))
    monkeypatch.setenv("GPTOSS_GATEWAY__MODELS", json.dumps(models))
    if not said:
        assert settings.load().gateway.models.keys() == models.keys()
        return
    with pytest.raises(UserError) as complaint:
        settings.load()
    assert said in str(complaint.value)


def test_a_pool_serves_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"model": "small", "pool": "stable", "url": "http://10.0.0.9:8000"}
    monkeypatch.setenv("GPTOSS_GATEWAY__UPSTREAMS", json.dumps([*POOLS, other]))
    with pytest.raises(UserError, match="pool 'stable' serves two models"):
        settings.load()


def test_a_weak_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTOSS_GATEWAY__ENGINE_KEY", "hunter2")
    with pytest.raises(UserError) as complaint:
        settings.load()
    assert "hunter2" not in str(complaint.value)


@pytest.mark.parametrize(
    "headers", ["hush", "=hush", "a b=hush", "a=hush%0d%0ab: c", "a=hush%c3%a4"]
)
def test_headers_that_cannot_be_sent_are_not_repeated(
    monkeypatch: pytest.MonkeyPatch, headers: str
) -> None:
    monkeypatch.setenv("GPTOSS_TELEMETRY__OTLP_HEADERS", headers)
    with pytest.raises(UserError, match="otlp_headers: write name=value") as complaint:
        settings.load()
    assert "hush" not in str(complaint.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"gateway: {port", "is not YAML at line 1"),
        (b"\xff\xfe\x00", "is not YAML"),
        (b"- 1", "must hold names and values"),
        (b"gatway: {}", "gatway"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, said: str
) -> None:
    file = tmp_path / "gptoss.yaml"
    file.write_bytes(content)
    monkeypatch.setenv("GPTOSS_CONFIG", str(file))
    with pytest.raises(UserError) as complaint:
        settings.load()
    assert said in str(complaint.value)
    assert "\n" not in str(complaint.value)


def test_a_file_that_is_not_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GPTOSS_CONFIG", str(tmp_path / "none.yaml"))
    with pytest.raises(UserError, match="No such file"):
        settings.load()


@pytest.mark.parametrize("secret", ["short", "a" * 40, "ab" * 20, " " * 40, "abcdefgh" * 4 + "\n"])
@pytest.mark.parametrize("name", ["GPTOSS_GATEWAY__ENGINE_KEY", "GPTOSS_ADMIN__TOKEN"])
def test_a_secret_that_could_be_guessed_or_mistyped_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, secret: str
) -> None:
    monkeypatch.setenv(name, secret)
    with pytest.raises(UserError, match="use") as refusal:
        settings.load()
    assert secret not in str(refusal.value)


@pytest.mark.parametrize(("client", "idle", "patience"), [(60, 120, 60), (60, 5, 5)])
def test_a_client_is_waited_for_no_longer_than_an_engine(
    client: float, idle: float, patience: float
) -> None:
    gateway = settings.GatewaySettings(client_timeout=client, idle_timeout=idle)
    assert gateway.client_patience == patience
