"""What the real engine's metrics page has: `golden/vllm-0.32.0.json`, which queries are checked by.

python -m tests.observability.golden      writes it anew, from a real vLLM with the tiny gpt-oss

The engine is started by `gptoss engine`, so that what profiles say of its metrics is in it. It is
asked one request of each kind first: some families are there only once they count something.
"""

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

FILE: Final = Path(__file__).parent / "golden" / "vllm-0.32.0.json"

FREE: Final = frozenset({"model_name", "engine", "le"})
"""Labels whose values are names or bounds; those of every other one are an enumeration."""
GROWING: Final = frozenset({"handler", "method", "status"})
"""Labels that have a value only once such a request has come."""

Shape = dict[str, Any]
"""Of a family: `type`, `labels`, and where there are some `values` by label, and `le`."""


def shapes(page: str) -> dict[str, Shape]:
    """Every family of a page, by the name that queries use; of a histogram the name without its
    suffixes."""
    families = text_string_to_metric_families(page)
    # When each series began: whether a page says so is a matter of the client library's settings.
    return dict(
        sorted(_shape(one) for one in families if one.samples and not _is_birthday(one.name))
    )


def _is_birthday(name: str) -> bool:
    return name.endswith("_created")


def _shape(family: Metric) -> tuple[str, Shape]:
    samples = [one for one in family.samples if not _is_birthday(one.name)]
    name = family.name + ("_total" if family.type == "counter" else "")
    shape: Shape = {
        "type": family.type,
        "labels": sorted({label for one in samples for label in one.labels} - {"le"}),
    }
    if values := {} if name.endswith("_info") else _values(one.labels for one in samples):
        shape["values"] = values
    if bounds := {one.labels["le"] for one in samples if "le" in one.labels}:
        shape["le"] = sorted(bounds, key=float)
    return name, shape


def _values(series: Iterable[Mapping[str, str]]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for labels in series:
        for label, value in labels.items():
            if label not in FREE:
                found[label].add(value)
    return {label: sorted(values) for label, values in sorted(found.items())}


TOOL: Final = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"location": {"type": "string"}},
            "required": ["location"],
        },
    },
}


def exercise(url: str, key: str, model: str) -> None:
    """One request of each kind to an engine: whole, streamed, a tool's call, one that comes to its
    limit, one whose client leaves, one that is refused."""
    with httpx.Client(
        base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=120
    ) as client:

        def ask(text: str, **fields: object) -> httpx.Response:
            body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
            return client.post("/v1/chat/completions", json=body)

        ask("Hello!").raise_for_status()
        ask("Hello!", stream=True).raise_for_status()
        ask("What is the weather in Paris? Use the tool.", tools=[TOOL]).raise_for_status()
        ask("Count to 100000.", max_tokens=20).raise_for_status()
        _leave(client, model)
        assert ask("Hello!", max_tokens=-1).status_code == 400


def _leave(client: httpx.Client, model: str) -> None:
    """A stream whose client has gone after its first piece."""
    message = {"role": "user", "content": "Count to 100000."}
    body = {"model": model, "messages": [message], "max_tokens": 1000, "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        next(answer.iter_lines())


def page_of(url: str) -> str:
    """An engine's metrics."""
    answer = httpx.get(f"{url}/metrics", timeout=30)
    answer.raise_for_status()
    return answer.text


def read() -> dict[str, Shape]:
    """The golden."""
    families: dict[str, Shape] = json.loads(FILE.read_text())["families"]
    return families


def main() -> None:
    # Here, because tests that only read the golden need nothing of an engine.
    from service import settings
    from service.engine import tiny
    from tests.e2e.conftest import ENGINE_KEY, MODEL
    from tests.e2e.engines import Engine
    from tests.integration.fleet import until

    weights = tiny.ensure(settings.load().cache_dir)
    with tempfile.TemporaryDirectory() as home, Engine(weights, Path(home)) as engine:
        engine.wait()
        exercise(engine.url, ENGINE_KEY, MODEL)
        until(lambda: engine.metric("vllm:num_requests_running") == 0)
        found = shapes(page_of(engine.url))
    document = {"made by": "python -m tests.observability.golden", "families": found}
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
