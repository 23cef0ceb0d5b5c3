"""The commands in the pods are ones that the service has, with options that it knows."""

from importlib.util import find_spec
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from service.cli.main import app
from service.grace import Grace
from service.profiles import PROFILES
from service.profiles import find as find_profile
from tests.chart.pods import Container, containers, pods
from tests.chart.render import EVERY_API, Objects, overlay, overlays, render, rendered
from tests.chart.test_gateway_settings import clear

every_overlay = pytest.mark.parametrize("name", overlays())

GPTOSS: Any = typer.main.get_command(app)

# Images of others, and what the kubelet runs in ours without `gptoss`.
NOT_OURS = ("postgresql", "valkey")


def _ours(name: str) -> list[Container]:
    pods_of_ours = [pod for pod in pods(rendered(name)) if pod.component not in NOT_OURS]
    return [container for pod in pods_of_ours for container in pod.containers]


@every_overlay
def test_every_command_is_one_of_gptoss(name: str) -> None:
    """The image's entry point is `gptoss`; the arguments are parsed, and nothing is run."""
    for container in _ours(name):
        assert "command" not in container.body, f"{container}: the entry point would be lost"
        _parse(container.command)


def _parse(words: list[str]) -> dict[str, Any]:
    """What a command would be called with. Raises a usage error for what it does not know."""
    command = GPTOSS
    while hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    params: dict[str, Any] = command.make_context(command.name, list(words)).params
    return params


@every_overlay
def test_an_engine_takes_its_arguments_and_proves_that_the_model_fits(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = overlay(name)["engine"]["pools"]
    for engine in pods(rendered(name), "engine"):
        shown = _dry_run(engine.main, monkeypatch)
        pool = given[engine.labels["gptoss/pool"]]
        assert shown["served-model-name"] == pool["model"]
        assert shown["port"] == engine.ports["http"]
        assert shown["host"] == "0.0.0.0"  # noqa: S104
        assert shown["shutdown-timeout"] == float(engine.main.env["GPTOSS_DRAIN"])


def _dry_run(engine: Container, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The configuration of vLLM that the container would start with."""
    clear(patch)
    for variable in ("MODEL", "PROFILE"):
        patch.delenv(variable, raising=False)
    env: dict[str, str | None] = {**engine.env, "VLLM_API_KEY": "0123456789" * 4}
    result = CliRunner().invoke(app, [*engine.command, "--dry-run"], env=env)
    assert result.exit_code == 0, f"{engine}: {result.output} {result.exception}"
    config, _, _ = result.stdout.partition("\n# /")
    shown: dict[str, Any] = yaml.safe_load(config)
    return shown


def _one_pool(pool: dict[str, str]) -> Objects:
    values = overlay("minimal", weights={"size": "100Gi"})
    return render({**values, "engine": {"pools": {"one": pool}}}, apis=EVERY_API)


@pytest.mark.parametrize("profile", PROFILES)
def test_an_engine_of_every_profile_starts_with_its_models(
    profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in find_profile(profile).models:
        objects = _one_pool({"profile": profile, "model": model})
        (engine,) = pods(objects, "engine")
        shown = _dry_run(engine.main, monkeypatch)
        assert shown["shutdown-timeout"] == Grace(120).engine_shutdown


@pytest.mark.parametrize("profile", PROFILES)
def test_an_engine_asks_for_the_cards_of_its_profile(profile: str) -> None:
    facts = find_profile(profile)
    objects = _one_pool({"profile": profile})
    (engine,) = pods(objects, "engine")
    resources = engine.main.body["resources"]
    wanted = {} if facts.vendor == "cpu" else {f"{facts.vendor}.com/gpu": str(facts.gpus)}
    asked = {key: value for key, value in resources["requests"].items() if "/gpu" in key}
    assert asked == wanted
    assert {k: v for k, v in (resources.get("limits") or {}).items() if "/gpu" in k} == wanted
    terms = (engine.spec.get("affinity") or {}).get("nodeAffinity")
    assert bool(terms) == bool(wanted), "an engine waits for the card that it is made for"


@every_overlay
def test_weights_are_fetched_for_every_model_once_and_awaited_by_every_engine(name: str) -> None:
    values = overlay(name)
    models = {pool["model"] for pool in values["engine"]["pools"].values()}
    claimed = models - values.get("weights", {}).get("images", {}).keys()
    jobs = [_parse(c.command) for c in containers(rendered(name), "weights")]
    assert sorted(job["model"] for job in jobs) == sorted(claimed)
    for engine in pods(rendered(name), "engine"):
        waiting = [_parse(c.command) for c in engine.containers if c.init]
        model = values["engine"]["pools"][engine.labels["gptoss/pool"]]["model"]
        expected = [model] if model in claimed else []
        assert [one["model"] for one in waiting] == expected
        assert all(one["wait"] > 0 and one["offline"] for one in waiting)
        revisions = {one["revision"] for one in [*waiting, *jobs]}
        assert len(revisions) <= 1


@every_overlay
def test_where_weights_are_written_they_are_looked_for(name: str) -> None:
    objects = rendered(name)
    writers = containers(objects, "weights")
    readers = [c for pod in pods(objects, "engine") for c in pod.containers if c.init]
    places = {(c.env["HF_HUB_CACHE"], c.env["GPTOSS_CACHE_DIR"]) for c in [*writers, *readers]}
    assert len(places) <= 1
    for container in [*writers, *readers]:
        paths = {m["name"]: m["mountPath"] for m in container.body["volumeMounts"]}
        assert all(
            path.startswith(f"{paths['weights']}/")
            for path in (container.env["HF_HUB_CACHE"], container.env["GPTOSS_CACHE_DIR"])
        )


@every_overlay
def test_a_probe_that_is_a_command_is_one_that_there_is(name: str) -> None:
    for container in _ours(name):
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            words = ((container.body.get(probe) or {}).get("exec") or {}).get("command")
            if words:
                assert words[:2] == ["python3", "-m"]
                assert find_spec(words[2]), words[2]
                assert words[3] in ("started", "live")
                assert str(container.ports["http"]) in words
                assert all(isinstance(word, str) for word in words)
