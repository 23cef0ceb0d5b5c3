"""GuideLLM as a process, and what it says of its run."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.crosscheck.install import GUIDELLM
from tests.crosscheck.paced import Figures
from tests.integration.fleet import until

# It begins ten otherwise, each of which loads torch. A machine of the tests has two cores.
_PROCESSES: Final = 4
# On two busy cores these take more than a minute to load.
_START_SECONDS: Final = 240
_END_SECONDS: Final = 120
NEEDED: Final = pytest.mark.skipif(
    not GUIDELLM.exists(), reason="GuideLLM is not installed: `make crosscheck` installs it"
)


@contextlib.contextmanager
def running(
    home: Path, url: str, key: str, profile: str, requests: int
) -> Iterator[subprocess.Popen[bytes]]:
    """It, in the folder where it leaves its results, until the block ends."""
    prompts = home / "prompts.json"
    rows = [{"prompt": f"Say {n}.", "output_tokens_count": 64} for n in range(requests)]
    prompts.write_text(json.dumps(rows))
    line = [str(GUIDELLM), "run", "--disable-progress"]
    line += ["--backend", f"kind=openai_http,target={url},model=m,api_key={key}"]
    line += ["--profile", profile, "--constraint", f"kind=max_requests,count={requests}"]
    line += ["--data", f"kind=json_file,path={prompts}"]  # so it needs no tokenizer
    line += ["--output", "kind=json,path=guidellm.json"]
    own = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(home / "hub"),
        "GUIDELLM__MAX_WORKER_PROCESSES": str(_PROCESSES),
    }
    with (home / "guidellm.out").open("wb") as output:
        process = subprocess.Popen(
            line,
            cwd=home,
            env=os.environ | own,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # its workers end with it, however it ends
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait(process: subprocess.Popen[bytes], sends: Callable[[], bool]) -> None:
    """Until it sends requests, which it may never do: then `finish` says why."""
    until(lambda: sends() or process.poll() is not None, _START_SECONDS, "GuideLLM sent nothing")


def finish(process: subprocess.Popen[bytes], home: Path) -> None:
    """Wait for its end."""
    status = process.wait(_END_SECONDS)
    assert status == 0, (home / "guidellm.out").read_text(errors="replace")[-2000:]


def figures(home: Path) -> Figures:
    """As its own report has them: its ITL is what others call TPOT."""
    (benchmark,) = json.loads((home / "guidellm.json").read_text())["benchmarks"]
    metrics: dict[str, Any] = benchmark["metrics"]

    def of(name: str) -> dict[str, Any]:
        found: dict[str, Any] = metrics[name]["successful"]
        return found

    ttft = of("time_to_first_token_ms")["percentiles"]
    return Figures(
        metrics["request_totals"]["successful"],
        of("requests_per_second")["mean"],
        of("output_tokens_per_second")["mean"],
        ttft["p50"],
        ttft["p99"],
        of("inter_token_latency_ms")["percentiles"]["p50"],
    )
