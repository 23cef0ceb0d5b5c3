"""`gptoss engine` takes the weights that it was told to take."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli.main import app
from service.engine import launcher
from service.engine import weights as published_weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("revision", [COMMIT, None])
def test_the_weights_are_of_the_revision_that_was_named(
    revision: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the chart's Job fetched them: of another revision nothing may be there."""
    asked: list[str | None] = []

    def fetch(repo: str, *, revision: str | None, **_: Any) -> Path:
        asked.append(revision)
        return tmp_path

    monkeypatch.setenv("GPTOSS_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(published_weights, "fetch", fetch)
    # Neither vLLM for NVIDIA nor a card is here: what comes after the weights is not the subject.
    for name in ("preflight", "check", "become"):
        monkeypatch.setattr(launcher, name, lambda *_: None)
    words = ["engine", "--model", "gpt-oss-20b", "--profile", "cpu-amx"]
    done = CliRunner().invoke(app, [*words, *(["--revision", revision] if revision else [])])
    assert done.exit_code == 0, done.output
    assert asked == [revision]
