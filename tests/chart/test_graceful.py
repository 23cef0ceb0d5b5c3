"""Every grace period follows from `drainSeconds`, as service/grace.py says."""

import re

import pytest

from service.grace import NOTICE_SECONDS, Grace
from tests.chart.pods import Pod, pod, pods
from tests.chart.render import CHART, EVERY_API, overlay, overlays, render, rendered

every_overlay = pytest.mark.parametrize("name", overlays())
DRAINS = [1, 45, 120, 3600]


def _given(pod: Pod) -> int:
    return int(pod.spec["terminationGracePeriodSeconds"])


@pytest.mark.parametrize("drain", DRAINS)
def test_a_gateway_is_killed_after_its_streams_have_ended(drain: int) -> None:
    gateway = pod(render(overlay("minimal", drainSeconds=drain), apis=EVERY_API), "gateway")
    grace = Grace(drain)
    assert _given(gateway) == grace.gateway_termination
    env = gateway.main.env
    assert float(env["GPTOSS_DRAIN"]) == drain
    assert float(env["GPTOSS_NOTICE"]) == grace.notice
    assert float(env["GPTOSS_TERMINATION_GRACE"]) == _given(gateway)
    assert "preStop" not in gateway.main.body.get("lifecycle", {}), "it gives notice by itself"


@pytest.mark.parametrize("drain", DRAINS)
def test_an_engine_is_killed_after_its_streams_have_ended(drain: int) -> None:
    engine = pod(render(overlay("minimal", drainSeconds=drain), apis=EVERY_API), "engine")
    grace = Grace(drain)
    assert _given(engine) == grace.engine_termination
    assert float(engine.main.env["GPTOSS_DRAIN"]) == drain
    assert float(engine.main.env["GPTOSS_TERMINATION_GRACE"]) == _given(engine)


@every_overlay
def test_an_engine_leaves_the_dns_before_it_gets_its_signal(name: str) -> None:
    for engine in pods(rendered(name), "engine"):
        command = engine.main.body["lifecycle"]["preStop"]["exec"]["command"]
        assert command[0] == "sleep"
        assert float(command[1]) == NOTICE_SECONDS


@every_overlay
def test_an_engine_that_hangs_is_not_waited_for(name: str) -> None:
    """The preStop hook runs before a restart too, and has to fit in."""
    for engine in pods(rendered(name), "engine"):
        probe = engine.main.body["livenessProbe"]
        grace = probe["terminationGracePeriodSeconds"]
        assert NOTICE_SECONDS < grace < _given(engine)
        assert "terminationGracePeriodSeconds" not in engine.main.body["readinessProbe"]


@pytest.mark.parametrize(("component", "more"), [("gateway", "gateway"), ("engine", "engine")])
def test_a_longer_grace_may_be_given(component: str, more: str) -> None:
    given = {"terminationGracePeriodSeconds": 900}
    values = {"gateway": given} if more == "gateway" else {"engine": {"defaults": given}}
    found = pod(render(overlay("minimal", **values), apis=EVERY_API), component)
    assert _given(found) == 900
    assert float(found.main.env["GPTOSS_TERMINATION_GRACE"]) == 900


@every_overlay
def test_a_process_knows_when_it_will_be_killed(name: str) -> None:
    """A process that is told of less than it needs refuses to start."""
    for one in [*pods(rendered(name), "gateway"), *pods(rendered(name), "engine")]:
        assert float(one.main.env["GPTOSS_TERMINATION_GRACE"]) == _given(one)


@every_overlay
def test_a_start_may_take_as_long_as_the_values_say(name: str) -> None:
    for engine in pods(rendered(name), "engine"):
        probe = engine.main.body["startupProbe"]
        seconds = probe["failureThreshold"] * probe["periodSeconds"]
        assert seconds >= 1800
        deadline = engine.owner.spec["progressDeadlineSeconds"]
        assert deadline > seconds + _given(engine), "or a rollout fails that only takes its time"


def test_the_readme_says_what_the_periods_are() -> None:
    grace = Grace(120)
    said = dict(
        re.findall(r"^\| (\S.*?) \| (\d+) \|", (CHART / "README.md").read_text(), re.MULTILINE)
    )
    assert {what: float(seconds) for what, seconds in said.items()} == {
        "engine `preStop`": grace.engine_pre_stop,
        "engine, vLLM's `shutdown-timeout`": grace.engine_shutdown,
        "engine `terminationGracePeriodSeconds`": grace.engine_termination,
        "gateway `GPTOSS_NOTICE`": grace.notice,
        "gateway `terminationGracePeriodSeconds`": grace.gateway_termination,
    }
