"""Every query that stands somewhere is found there."""

import json
from pathlib import Path

from tests.observability.queries import (
    ROOT,
    documents,
    in_document,
    named_in,
    of_autoscaling,
    of_dashboard,
)

BOARD = {
    "panels": [
        {"title": "One", "targets": [{"refId": "A", "expr": "up"}, {"refId": "B"}]},
        {
            "type": "row",
            "title": "Row",
            "panels": [{"title": "Two", "targets": [{"refId": "A", "expr": "rate(a_total[1m])"}]}],
        },
    ],
    "templating": {
        "list": [
            {"name": "bound", "type": "custom", "query": "two : 2.0, three : 3.0"},
            {"name": "every", "type": "interval", "query": "1m,5m"},
            {
                "name": "model",
                "type": "query",
                "query": {"query": 'label_values(a_total{pool=~"$pool"}, model)', "refId": "x"},
            },
            {"name": "job", "type": "query", "query": "label_values(job)"},
            {"name": "team", "type": "query", "query": "query_result(topk(5, b))"},
            {"name": "source", "type": "datasource", "query": "prometheus"},
        ]
    },
    "annotations": {"list": [{"name": "Restarts", "expr": "changes(c[1m])"}, {"name": "None"}]},
}


def test_of_a_dashboard(tmp_path: Path) -> None:
    path = tmp_path / "board.json"
    path.write_text(json.dumps(BOARD))
    found = list(of_dashboard(path))
    assert [query.text for query in found] == [
        "up",
        "rate(a_total[1m])",
        'count by (model) (a_total{pool=~"$pool"})',
        "topk(5, b)",
        "changes(c[1m])",
    ]
    options = {"bound": ["2.0", "3.0"], "every": ["1m", "5m"]}
    assert all(query.options == options for query in found)


TEXT = """\
See `gptoss_gateway_keys`, and `max(gptoss_gateway_gateways) > 1`.
```promql
sum(a)

sum(
  b
)
```
```sh
echo `gptoss_gateway_none`
```
All of `gptoss_gateway_queue_*`.
"""


def test_of_a_document() -> None:
    found = [query.text for query in in_document("notes.md", TEXT)]
    assert found == ["sum(a)", "sum(\n  b\n)", "max(gptoss_gateway_gateways) > 1"]
    assert named_in(TEXT) == {"gptoss_gateway_keys", "gptoss_gateway_gateways"}


def test_of_both_kinds_of_autoscalers() -> None:
    found = " ".join(map(str, of_autoscaling()))
    assert "ScaledObject/" in found
    assert "HorizontalPodAutoscaler/" in found


def test_documents_are_those_of_the_repository() -> None:
    names = {str(path.relative_to(ROOT)) for path in documents()}
    assert {"README.md", "helm/gptoss/README.md", "deploy/observability/METRICS.md"} <= names
    assert not [name for name in names if name.startswith(".")]
