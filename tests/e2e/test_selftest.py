"""What a cluster asks before it trusts gpt-oss: the engine's probes, and `gptoss selftest`."""

import subprocess
import sys
from pathlib import Path

import pytest

from service import settings
from tests.e2e.conftest import ENGINE_KEY, MODEL, Stack
from tests.process import GPTOSS, environment


def run(home: Path, *argv: str, **extra: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        argv,
        env=environment(home, extra),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_vllm_with_gpt_oss_has_started_and_is_live(stack: Stack, tmp_path: Path) -> None:
    def probe(what: str) -> tuple[int, str]:
        port = stack.engine_url.rpartition(":")[2]
        result = run(
            tmp_path,
            *(sys.executable, "-m", "service.engine.probe", what, "--port", port),
            VLLM_API_KEY=ENGINE_KEY,
            GPTOSS_STATE_DIR=str(tmp_path),
        )
        return result.returncode, result.stdout + result.stderr

    before = stack.engine_metric("vllm:generation_tokens_total")
    assert probe("started") == (0, "")
    after = stack.engine_metric("vllm:generation_tokens_total")
    assert after > before
    assert [probe("started"), probe("live"), probe("live")] == [(0, "")] * 3
    assert stack.engine_metric("vllm:generation_tokens_total") == after, "it is asked once"
    (note,) = (tmp_path / "engine").glob("*.progress")
    assert float(note.read_text().split()[0]) > 0, "vLLM says when it started"


def test_the_gateway_passes_the_self_test_with_a_key_of_its_own(
    stack: Stack, tmp_path: Path
) -> None:
    own = {"GPTOSS_DATABASE__URL": stack.office.database_url}
    result = run(tmp_path, *GPTOSS, "selftest", "--url", stack.base_url, **own)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        [MODEL, "chat completion"],
        [MODEL, "streamed completion"],
        [MODEL, "tool call"],
    ]


@pytest.mark.parametrize("words", [(), ("--offline",)])
def test_the_folder_of_the_tiny_model_is_printed(
    weights: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    cache = {"GPTOSS_CACHE_DIR": str(settings.load().cache_dir)}
    result = run(tmp_path, *GPTOSS, "weights", MODEL, *words, **cache)
    assert (result.returncode, result.stdout) == (0, f"{weights}\n"), result.stderr
