"""The pod that unpacks weights: admitted, and on the claim that the offline values name."""

from pathlib import Path

import pytest
import yaml

from deploy.airgap import tool
from tests.chart.pod_security import breaches
from tests.chart.pods import pods
from tests.chart.render import Object, overlay, render
from tests.chart.schemas import errors, releases

OBJECTS = tuple(
    Object(body, Path(tool.POD).name) for body in yaml.safe_load_all(tool.POD.read_text())
)


@pytest.mark.parametrize("release", [releases()[0], releases()[-1]])
def test_kubernetes_takes_it(release: str) -> None:
    assert [line for one in OBJECTS for line in errors(one, release)] == []


def test_it_is_as_restricted_as_the_chart() -> None:
    (pod,) = pods(OBJECTS)
    assert breaches(pod) == []


def test_it_fits_the_offline_values() -> None:
    values, (pod,) = overlay("offline"), pods(OBJECTS)
    claim = pod.volumes["weights"]["persistentVolumeClaim"]["claimName"]
    assert claim == OBJECTS[0].name == values["weights"]["claim"]
    (job,) = pods(render(values), "weights")
    assert pod.main.image == job.main.image
    for same in ("runAsUser", "runAsGroup", "fsGroup"):
        assert pod.spec["securityContext"][same] == job.spec["securityContext"][same]
    assert pod.spec["imagePullSecrets"] == job.spec["imagePullSecrets"]
