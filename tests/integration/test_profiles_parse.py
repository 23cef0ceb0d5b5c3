"""Every rendered profile goes through the pinned vLLM's own parser and environment check.

One subprocess does it all, because importing vLLM takes ten seconds. It runs the parser exactly as
the server does (`--config FILE`), vLLM's own check of parsed arguments, and the engine's check of
the environment (`--fail-on-environ-validation`).

What this proves: every key exists, every value has the type and, where vLLM lists choices
(moe-backend, kv-cache-dtype, scheduling-policy, fingerprint-mode), is one of them; the attention
backend and the tool and reasoning parsers are registered; nested values (quantization-config,
compilation-config, logging-config, histogram buckets) are accepted by their own classes; every
VLLM_ variable exists. What it cannot prove without the hardware: that a kernel
named there runs on the card, and that the memory suffices.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from service.engine.launcher import Executor, child_env, render
from service.models import MODELS
from service.profiles import PROFILES, plan

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="needs vLLM")

CASES = [(profile.name, model) for profile in PROFILES.values() for model in profile.models]

ON_RAY = "cards of several nodes"

CHECKER = Path(__file__).parent / "vllm_checker.py"

BOGUS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "unknown key": ({"max-model-length": 4096}, {}),
    # vLLM drops `unknown: false` without a word; the checker must not.
    "unknown key set to false": ({"enable-telepathy": False}, {}),
    "key of vLLM 0.33": ({"reasoning-effort-map": {"none": "low"}}, {}),
    "removed key": ({"swap-space": 4}, {}),
    "unknown choice": ({"moe-backend": "magic"}, {}),
    "unknown attention backend": ({"attention-backend": "MAGIC_ATTN"}, {}),
    "unknown nested key": ({"compilation-config": {"pass_config": {"magic": True}}}, {}),
    "unknown histogram": ({"custom-histogram-buckets": {"magic": [1.0]}}, {}),
    "unknown log format": ({"logging-config": {"formatter": "magic"}}, {}),
    "unknown tool parser": ({"tool-call-parser": "magic"}, {}),
    "unknown reasoning parser": ({"reasoning-parser": "magic"}, {}),
    "unknown activation": ({"quantization-config": {"moe": {"activation": "magic"}}}, {}),
    "unknown variable": ({}, {"VLLM_USE_FLASHINFER_MOE_MXFP4_MXFP8": "1"}),
    "tools without a parser": ({"tool-call-parser": None}, {}),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The checker's answer to every case: empty when vLLM accepts it."""
    folder = tmp_path_factory.mktemp("parse")
    cases = [_case(f"{name}/{model}", name, model, folder) for name, model in CASES]
    # One engine on several nodes, as `gptoss engine --executor ray` renders it.
    cases.append(_case(ON_RAY, "h100-80g", "gpt-oss-120b", folder, executor=Executor.RAY))
    for title, (config, env) in BOGUS.items():
        cases.append(_case(title, "b200", "gpt-oss-120b", folder, config, env))
    done = subprocess.run(
        [sys.executable, str(CHECKER)],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("VLLM_")},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return answers


def _case(
    title: str,
    profile: str,
    model: str,
    folder: Path,
    config: dict[str, Any] | None = None,
    env: dict[str, str] | None = None,
    executor: Executor | None = None,
) -> dict[str, Any]:
    """What the checker needs: a config file as it is written, and the variables with it."""
    proven = plan(MODELS[model], PROFILES[profile])
    launch = render(proven, model_path=folder, state_dir=folder, executor=executor)
    merged = {**launch.config, **(config or {})}
    path = folder / f"{len(list(folder.iterdir()))}.yaml"
    path.write_text(json.dumps({key: value for key, value in merged.items() if value is not None}))
    return {
        "title": title,
        "config": str(path),
        "env": {**child_env(launch, {}), **(env or {})},
    }


@pytest.mark.parametrize(("profile", "model"), CASES)
def test_vllm_accepts_every_profile(profile: str, model: str, answers: dict[str, str]) -> None:
    assert answers[f"{profile}/{model}"] == ""


def test_vllm_accepts_ray_as_what_starts_its_processes(answers: dict[str, str]) -> None:
    # That there is such a key; its value may also be a class of somebody's.
    assert answers[ON_RAY] == ""


@pytest.mark.parametrize("title", BOGUS)
def test_vllm_refuses_what_is_wrong(title: str, answers: dict[str, str]) -> None:
    assert answers[title] != ""
