"""Values that cannot work are refused before anything is installed, and the message says why."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from tests.chart.render import CHART, EVERY_API, Refused, merged, overlay, render

Values = Mapping[str, Any]


def pool(**values: Any) -> Values:
    """Values of the only pool."""
    return {"engine": {"pools": {"main": values}}}


def defaults(**values: Any) -> Values:
    return {"engine": {"defaults": values}}


SCALED = {"enabled": True}
PROMETHEUS = {"prometheus": "http://prometheus.monitoring.svc:9090"}
INGRESS = {"enabled": True, "hosts": ["llm.example.com"]}
IMAGE = {"repository": "x/weights", "digest": f"sha256:{'1' * 64}"}

# What the templates refuse, by what is wrong: the values, and the message (a regular expression).
BY_TEMPLATES: dict[str, tuple[Values, str]] = {
    "no pool": ({"engine": {"pools": {"main": None}}}, r"engine\.pools: name at least one"),
    "a profile that there is not": (
        pool(profile="h300"),
        r'engine\.pools\.main\.profile: there is no profile "h300": choose one of a100-80g, ',
    ),
    "no profile": (pool(profile=""), r'main\.profile: there is no profile ""'),
    "a model that the profile does not run": (
        pool(profile="l4", model="gpt-oss-120b"),
        r'main\.model: profile l4 does not run "gpt-oss-120b": choose one of gpt-oss-20b',
    ),
    "a rollout that never moves": (
        pool(rollout={"surge": 0, "unavailable": 0}),
        r"engine\.pools\.main\.rollout: with surge 0 and unavailable 0 no engine",
    ),
    "a rollout that never moves, in percent": (
        pool(rollout={"surge": "0%", "unavailable": "0%"}),
        r"engine\.pools\.main\.rollout: with surge 0 and unavailable 0",
    ),
    "autoscaling without a Prometheus": (
        pool(autoscaling=SCALED),
        r"engine\.pools\.main\.autoscaling: name the Prometheus .* in keda\.prometheus",
    ),
    "engines at least more than at most": (
        {**pool(autoscaling={**SCALED, "minReplicas": 5, "maxReplicas": 4}), "keda": PROMETHEUS},
        r"engine\.pools\.main\.autoscaling: minReplicas is more than maxReplicas",
    ),
    "no engine, and nobody waits for one": (
        {**pool(autoscaling={**SCALED, "minReplicas": 0}), "keda": PROMETHEUS},
        r"main\.autoscaling\.minReplicas: 0 needs gateway\.holdSeconds",
    ),
    "an engine's variable that is the chart's": (
        pool(env={"VLLM_API_KEY": "x"}),
        r"engine\.pools\.main\.env: VLLM_API_KEY is set by the chart",
    ),
    "an engine's setting": (pool(env={"GPTOSS_DRAIN": "1"}), r"GPTOSS_DRAIN is set by the chart"),
    "a model that nobody would be asked for": (
        pool(weight=0),
        r"engine\.pools: all pools of gpt-oss-20b have weight 0",
    ),
    "a fallback to nothing": (
        {"engine": {"fallbacks": {"gpt-oss-20b": "gpt-oss-120b"}}},
        r"engine\.fallbacks: gpt-oss-20b to gpt-oss-120b: both must be models of pools",
    ),
    "a fallback to itself": (
        {"engine": {"fallbacks": {"gpt-oss-20b": "gpt-oss-20b"}}},
        r"engine\.fallbacks: gpt-oss-20b to gpt-oss-20b: .* two of them",
    ),
    "two databases": (
        {"database": {"existingSecret": "x"}},
        r"database: name a Secret in existingSecret or set trial\.enabled, not both",
    ),
    "two quota stores": ({"quota": {"existingSecret": "x"}}, r"quota: name a Secret .*not both"),
    "no database": (
        {"database": {"trial": {"enabled": False}}},
        r"database: put the URL of a PostgreSQL into a Secret .* set database\.trial\.enabled",
    ),
    "no quota store": (
        {"quota": {"trial": {"enabled": False}}},
        r"quota: put the URL of a Valkey or Redis into a Secret",
    ),
    "a gateway's setting that is the chart's": (
        {"gateway": {"env": {"GPTOSS_DRAIN": "1"}}},
        r"gateway\.env: GPTOSS_DRAIN is set by the chart",
    ),
    "more gateways than an engine's slots are shared out to": (
        {"gateway": {"autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 11}}},
        r"gateway\.autoscaling: maxReplicas is more than five times minReplicas",
    ),
    "engines on several nodes with a claim of one": (
        {**pool(replicas=2), "weights": {"accessModes": ["ReadWriteOnce"]}},
        r"weights\.accessModes: several engines need ReadWriteMany, or engine\.pools\.main\.node",
    ),
    "a label that pods are found by": (
        {"commonLabels": {"app.kubernetes.io/name": "mine"}},
        r"commonLabels: app\.kubernetes\.io/name is the chart's own label",
    ),
    "requests that are held longer than they may take": (
        {"gateway": {"holdSeconds": 3600, "requestSeconds": 600}},
        r"gateway\.holdSeconds: requests may not be held for longer than requestSeconds",
    ),
    "a gateway's secret that is the chart's": (
        {"gateway": {"env": {"GPTOSS_DATABASE__URL": "postgresql://u:p@h/d"}}},
        r"gateway\.env: GPTOSS_DATABASE__URL is set by the chart",
    ),
    "a port that its probes do not ask": (
        {"gateway": {"env": {"GPTOSS_GATEWAY__OPS_PORT": "9000"}}},
        r"gateway\.env: GPTOSS_GATEWAY__OPS_PORT is set by the chart",
    ),
    "engines that are not the chart's": (
        {"gateway": {"env": {"GPTOSS_GATEWAY__UPSTREAMS": "[]"}}},
        r"gateway\.env: GPTOSS_GATEWAY__UPSTREAMS is set by the chart",
    ),
    "a place for weights where no engine looks": (
        {"weights": {"env": {"HF_HUB_CACHE": "/elsewhere"}}},
        r"weights\.env: HF_HUB_CACHE is set by the chart",
    ),
    "gateways at least more than at most": (
        {"gateway": {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 4}}},
        r"gateway\.autoscaling: minReplicas is more than maxReplicas",
    ),
    "an ingress for no host": (
        {"gateway": {"ingress": {"enabled": True}}},
        r"gateway\.ingress: name its hosts",
    ),
    "a route of no Gateway": (
        {"gateway": {"httpRoute": {"enabled": True}}},
        r"gateway\.httpRoute: name its Gateway in parentRefs",
    ),
    "an ingress that cuts long requests": (
        {"gateway": {"ingress": INGRESS, "requestSeconds": 7200}},
        r"proxy-read-timeout 3600 would cut requests that may take requestSeconds, 7200",
    ),
    "an image of an unknown model": (
        {"weights": {"images": {"gpt-oss-500b": IMAGE}}},
        r'weights\.images: there is no model "gpt-oss-500b"',
    ),
    "a claim that is too small": (
        {"weights": {"size": "10Gi"}},
        r"weights\.size: 10Gi is too small for these models, which take 14 GB",
    ),
    "a gateway that is killed too early": (
        {"gateway": {"terminationGracePeriodSeconds": 60}},
        r"gateway\.terminationGracePeriodSeconds: 60 s would cut streams: drainSeconds needs 150",
    ),
    "an engine that is killed too early": (
        pool(terminationGracePeriodSeconds=60),
        r"engine\.pools\.main\.terminationGracePeriodSeconds: 60 s would cut .* needs 165",
    ),
    "an image that is another one tomorrow": (
        {"images": {"engine": {"tag": "latest"}}},
        r'images\.engine\.tag: "latest" is another image tomorrow',
    ),
    "a gateway's image that is another one tomorrow": (
        {"images": {"gateway": {"tag": "latest"}}},
        r'images\.gateway\.tag: "latest"',
    ),
}

# What the schema refuses: the values, and where they are wrong.
BY_SCHEMA: dict[str, tuple[Values, str]] = {
    "a typing error at the top": ({"gatway": {}}, r"'gatway' not allowed"),
    "a typing error in a group": ({"gateway": {"replica": 3}}, r"'replica' not allowed"),
    "a typing error in a pool": (pool(replicaz=3), r"/engine/pools/main.*'replicaz' not allowed"),
    "a typing error deep in a pool": (pool(rollout={"max": 1}), r"'max' not allowed"),
    "a typing error of an image": ({"images": {"engine": {"Tag": "1"}}}, r"'Tag' not allowed"),
    "a typing error of resources": (
        {"gateway": {"resources": {"limit": {}}}},
        r"'limit' not allowed",
    ),
    "fewer than no engines": (pool(replicas=-1), r"/engine/pools/main/replicas"),
    "no gateway": ({"gateway": {"replicas": 0}}, r"/gateway/replicas"),
    "half an engine": (pool(replicas=1.5), r"/engine/pools/main/replicas"),
    "a number as text": (pool(replicas="2"), r"/engine/pools/main/replicas"),
    "a pool of a strange name": (
        {"engine": {"pools": {"Big_Pool": {}}}},
        r"'Big_Pool' does not match",
    ),
    "a pool of a long name": ({"engine": {"pools": {"p" * 30: {}}}}, r"'p{30}' does not match"),
    "an hour and more to drain": ({"drainSeconds": 4000}, r"/drainSeconds"),
    "no time to drain": ({"drainSeconds": 0}, r"/drainSeconds"),
    "a weight below zero": (pool(weight=-5), r"/engine/pools/main/weight"),
    "a port that there is not": ({"database": {"port": 70000}}, r"/database/port"),
    "a digest that is none": ({"images": {"engine": {"digest": "1234"}}}, r"/images/engine"),
    "a size that is none": ({"weights": {"size": "much"}}, r"/weights/size"),
    "no size": ({"weights": {"size": ""}}, r"/weights/size"),
    "no memory": (
        {"gateway": {"resources": {"requests": {"memory": ""}}}},
        r"/gateway/resources",
    ),
    "memory as a number": (
        {"gateway": {"resources": {"requests": {"memory": 512}}}},
        r"/gateway/resources",
    ),
    "a strange pull policy": ({"images": {"pullPolicy": "Sometimes"}}, r"/images/pullPolicy"),
    "a strange access mode": ({"weights": {"accessModes": ["Many"]}}, r"/weights/accessModes"),
    "a strange service": ({"gateway": {"service": {"type": "External"}}}, r"/gateway/service/type"),
    "an endpoint that is no URL": ({"weights": {"endpoint": "hub"}}, r"/weights/endpoint"),
    "a Prometheus that is no URL": ({"keda": {"prometheus": "prometheus:9090"}}, r"prometheus"),
    "a name that is too long": ({"fullnameOverride": "n" * 41}, r"/fullnameOverride"),
    "an image of weights without a digest": (
        {"weights": {"images": {"gpt-oss-20b": {"repository": "x"}}}},
        r"/weights/images",
    ),
    "a label that is a number": ({"commonLabels": {"a": 1}}, r"/commonLabels"),
    "a setting that is a number": ({"gateway": {"env": {"GPTOSS_X": 1}}}, r"/gateway/env"),
    "a setting of a strange name": ({"gateway": {"env": {"x-y": "1"}}}, r"'x-y' does not match"),
    "no time to start": (pool(startupSeconds=5), r"startupSeconds"),
    "an autoscaler of less than one": (defaults(autoscaling={"maxReplicas": 0}), r"maxReplicas"),
    "an interval without a unit": ({"monitoring": {"interval": "15"}}, r"/monitoring/interval"),
    "a Grafana that is no URL": (
        {"monitoring": {"grafanaUrl": "grafana:3000"}},
        r"at '/monitoring/grafanaUrl': 'grafana:3000' does not match pattern",
    ),
    "runbooks at no URL": (
        {"monitoring": {"runbooksUrl": "docs/runbooks"}},
        r"at '/monitoring/runbooksUrl': 'docs/runbooks' does not match pattern",
    ),
    "rules by another word": ({"monitoring": {"rules": "own"}}, r"at '/monitoring/rules': got str"),
}

TABLE = {**BY_TEMPLATES, **BY_SCHEMA}


@cache
def said(wrong: str) -> str:
    """What Helm says to one of the table."""
    return refusal(merged(overlay("minimal"), TABLE[wrong][0]))


def refusal(values: Values, kube: str = "1.34.0") -> str:
    """Why there is no render."""
    with pytest.raises(Refused) as caught:
        render(values, kube=kube, apis=EVERY_API)
    return str(caught.value).strip()


@pytest.mark.parametrize("wrong", TABLE)
def test_refused_with_what_is_wrong(wrong: str) -> None:
    assert re.search(TABLE[wrong][1], said(wrong)), said(wrong)


@pytest.mark.parametrize("wrong", BY_TEMPLATES)
def test_the_message_is_one_line_that_names_the_value(wrong: str) -> None:
    assert "\n" not in said(wrong)
    assert re.search(
        r"\): (commonLabels|engine|gateway|database|quota|weights|images)\.?\S*: .+", said(wrong)
    )


def test_image_volumes_need_a_kubernetes_that_has_them() -> None:
    with pytest.raises(
        Refused, match=r"image volumes need Kubernetes 1\.33, .* and this is v?1\.32\.4"
    ):
        render(overlay("weights-image"), kube="1.32.4")
    assert render(overlay("weights-image"), kube="1.33.0")


def test_every_refusal_of_the_templates_is_tried() -> None:
    """Each `fail` has a message that some line above matches, word for word."""
    seen = [*map(said, BY_TEMPLATES), refusal(overlay("weights-image"), kube="1.32.0")]
    for path in sorted((CHART / "templates").rglob("*")):
        if path.is_file():
            for text in re.findall(r'fail \(?(?:printf )?"((?:[^"\\]|\\.)*)"', path.read_text()):
                words = text.replace('\\"', '"')
                pattern = re.sub(r"%[sdqv]", ".*", re.escape(words).replace(r"\%", "%"))
                assert any(re.search(pattern, line) for line in seen), f"{path.name}: {words}"


def test_every_fail_is_found() -> None:
    """The test before this one reads messages by a pattern: none may escape it."""
    for path in sorted((CHART / "templates").rglob("*")):
        if path.is_file():
            text = path.read_text()
            found = re.findall(r'fail \(?(?:printf )?"', text)
            assert len(found) == len(re.findall(r"\{\{-? *fail\b|\(fail\b", text)), path
