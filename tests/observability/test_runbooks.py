"""What a runbook tells a person to do can be done: commands, objects, metrics and links exist."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml
from typer.testing import CliRunner

from deploy.observability.rules import alerts
from service.cli.main import app
from service.cli.settings import _rows
from service.settings import Settings
from service.telemetry import contract
from tests.chart.render import Objects, rendered, some
from tests.observability import catalog, queries, selectors
from tests.observability.rule_tests import needs_promtool
from tests.observability.runbooks import SECTIONS, Runbook, runbooks

every_runbook = pytest.mark.parametrize("runbook", runbooks(), ids=lambda one: one.alert)

OPS: Final = re.compile(
    r"curl -s http://127\.0\.0\.1:8001/(livez|readyz|upstreams|metrics)( \| grep (\w+))?"
)
NAMESPACE: Final = "gptoss"

# Of kubectl: verbs, the flags of each that take a value, and those that do not.
KUBECTL: Final = {
    "get": ({"-n", "-l", "-o", "--sort-by"}, set[str]()),
    "describe": ({"-n", "-l"}, set[str]()),
    "logs": ({"-n", "-l", "-c", "--tail"}, {"--prefix"}),
    "top": ({"-n", "-l"}, set[str]()),
    "exec": ({"-n", "-c"}, set[str]()),
    "rollout": ({"-n", "--timeout"}, set[str]()),
    "scale": ({"-n", "--replicas"}, set[str]()),
    "cordon": (set[str](), set[str]()),
    "delete": ({"-n"}, set[str]()),
}
KINDS: Final = {
    *("pods", "pod", "nodes", "events", "deploy", "hpa", "ingress"),
    *("podmonitors", "prometheusrules", "scaledobjects"),
}


def test_there_are_some() -> None:
    assert len(runbooks()) > 20


@every_runbook
def test_it_has_all_parts(runbook: Runbook) -> None:
    assert runbook.text.startswith(f"# {runbook.alert}\n")
    assert tuple(runbook.sections) == SECTIONS
    assert all(part.strip() for part in runbook.sections.values())
    assert runbook.commands and runbook.queries
    assert 20 <= len(runbook.text.splitlines()) <= 60, "short enough to read when paged"


@every_runbook
def test_its_links_lead_somewhere(runbook: Runbook) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", runbook.text):
        assert (runbook.path.parent / link).is_file(), link


def _check_gptoss(words: list[str]) -> None:
    """Its parser reads all of the line before it comes to `--help`."""
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0, done.output


def _check(command: str) -> None:
    words = shlex.split(command)
    match words[0]:
        case "gptoss":
            _check_gptoss(words[1:])
        case "curl":
            _check_curl(command)
        case "kubectl":
            _check_kubectl(words[1:])
        case "helm":
            assert words[1:4] == ["rollback", "gptoss", "-n"] or words[1] == "upgrade", command
        case _:
            pytest.fail(f"{command}: nobody checks {words[0]}")


def _check_curl(command: str) -> None:
    found = OPS.fullmatch(command)
    assert found, command
    assert not found[3] or f"{found[3]}" in {one.name for one in contract.FAMILIES}, command


def _check_kubectl(words: list[str]) -> None:
    inner = words.index("--") if "--" in words else len(words)
    verb, names, options = _split(words[:inner])
    _check_options(options)
    if rest := words[inner + 1 :]:
        assert verb == "exec"
        if rest[0] == "gptoss":
            _check(shlex.join(rest))
    if verb in ("get", "describe"):
        assert set(names[0].split(",")) <= KINDS, words
    for name in names:
        if name.startswith("deploy/"):
            assert name.removeprefix("deploy/") in _deployments(), words


def _split(words: list[str]) -> tuple[str, list[str], dict[str, str]]:
    """The verb, what it is about, and the options that have a value."""
    flags = iter(words)
    verb = ""
    names: list[str] = []
    options: dict[str, str] = {}
    for word in flags:
        flag, equals, value = word.partition("=")
        if not word.startswith("-"):
            verb, names = (verb, [*names, word]) if verb else (word, names)
        elif flag in _taking(verb):
            options[flag] = value if equals else next(flags)
        else:
            assert flag in KUBECTL[verb][1], words
    assert verb in KUBECTL, words
    return verb, names[1:] if verb in ("rollout", "top") else names, options


def _taking(verb: str) -> set[str]:
    """Before the verb: the namespace."""
    return KUBECTL[verb][0] if verb else {"-n"}


def _check_options(options: dict[str, str]) -> None:
    assert options.get("-n", NAMESPACE) == NAMESPACE
    if "-l" in options:
        name, value = options["-l"].split("=")
        assert name == "app.kubernetes.io/component" and value in _components(), options
    if "-c" in options:
        assert options["-c"] in _components(), options


def _chart() -> Objects:
    return rendered("minimal")


def _deployments() -> set[str]:
    return {one.name for one in some(_chart(), "Deployment")}


def _components() -> set[str]:
    kinds = ("Deployment", "StatefulSet")
    return {str(one.component) for one in some(_chart(), *kinds)}


@every_runbook
def test_its_commands_exist(runbook: Runbook) -> None:
    for command in runbook.commands:
        _check(command)


@every_runbook
def test_commands_that_it_mentions_exist(runbook: Runbook) -> None:
    for command in runbook.mentioned:
        _check(re.sub(r"\bN\b", "2", command))


@pytest.mark.parametrize(
    "command",
    [
        "gptoss replicas",
        "gptoss usage --of search",
        "gptoss db state",
        "curl -s http://127.0.0.1:8001/metrics | grep gptoss_gateway_nothing",
        "kubectl -n gptoss logs -l app.kubernetes.io/component=router",
        "kubectl -n gptoss exec deploy/gptoss-router -c gateway -- gptoss upstreams",
        "kubectl -n gptoss get pods --colour",
    ],
)
def test_one_that_does_not_exist_is_found(command: str) -> None:
    with pytest.raises(AssertionError):
        _check(command)


def _settings() -> set[str]:
    return {name for name, _, _ in _rows(Settings(), "GPTOSS_")}


def test_settings_in_runbooks_and_alerts_exist() -> None:
    texts = [runbook.text for runbook in runbooks()]
    texts += [f"{alert.summary} {alert.description}" for alert in alerts()]
    named = set(re.findall(r"\bGPTOSS_[A-Z_]+[A-Z]\b", " ".join(texts)))
    assert named <= _settings(), named - _settings()


def _all_queries() -> Iterator[tuple[str, str]]:
    for runbook in runbooks():
        for query in runbook.queries:
            yield runbook.alert, query


@needs_promtool
def test_promtool_reads_its_queries(tmp_path: Path) -> None:
    rules = [{"record": f"runbook:{alert}", "expr": query} for alert, query in _all_queries()]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": rules}]}))
    line = ["promtool", "check", "rules", "--lint=none", str(file)]
    done = subprocess.run(line, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_queries_ask_for_what_there_is() -> None:
    known = {**catalog.catalog(), **catalog.external()}
    known |= selectors.recorded(queries.rules(), known)
    for alert, query in _all_queries():
        assert not selectors.complaints(query, known), f"{alert}: {query}"
