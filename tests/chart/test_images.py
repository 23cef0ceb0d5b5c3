"""Which image runs: never a tag that moves, and always from the registry that is named."""

import pytest

from tests.chart.pods import containers, pods
from tests.chart.render import EVERY_API, Objects, overlay, overlays, render, rendered

every_overlay = pytest.mark.parametrize("name", overlays())

REGISTRY = "registry.example:5000/serving"
DIGEST = f"sha256:{'a' * 64}"
IMAGES = ("gateway", "engine", "engineAMD", "engineCPU", "valkey", "postgresql")


def _images(objects: Objects) -> set[str]:
    """Of containers, and of volumes that are images."""
    volumes = [v for pod in pods(objects) for v in pod.volumes.values() if "image" in v]
    return {c.image for c in containers(objects)} | {v["image"]["reference"] for v in volumes}


@every_overlay
def test_every_image_has_a_tag_or_a_digest_and_none_is_latest(name: str) -> None:
    for image in _images(rendered(name)):
        last = image.rpartition("/")[2]
        assert "@sha256:" in last or ":" in last, image
        assert not last.endswith((":latest", ":")), image


@every_overlay
def test_a_registry_is_put_before_every_image(name: str) -> None:
    found = _images(render(overlay(name, images={"registry": REGISTRY}), apis=EVERY_API))
    assert all(image.startswith(f"{REGISTRY}/") for image in found), found


@every_overlay
def test_a_registry_is_put_there_once(name: str) -> None:
    """An image whose repository names a registry by itself would be asked for at a wrong place."""
    for image in _images(rendered(name)):
        hosts = [part for part in image.split("/")[:-1] if "." in part or ":" in part]
        assert len(hosts) <= 1, image


@every_overlay
def test_a_digest_is_what_runs(name: str) -> None:
    values = overlay(name, images={image: {"digest": DIGEST} for image in IMAGES})
    for pool in values["engine"]["pools"].values():
        pool.pop("image", None)
    for container in containers(render(values, apis=EVERY_API)):
        assert container.image.endswith(f"@{DIGEST}")
        assert ":" not in container.image.partition("@")[0].rpartition("/")[2]


@every_overlay
def test_credentials_of_the_registry_are_with_every_pod(name: str) -> None:
    values = overlay(name, images={"pullSecrets": ["one", "two"]})
    for pod in pods(render(values, apis=EVERY_API)):
        assert pod.spec["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("one-h100", "gptoss-engine"),
        ("mi300x", "gptoss-rocm-engine"),
        ("cpu-tiny", "gptoss-cpu-engine"),
    ],
)
def test_an_engine_has_the_image_of_its_hardware(name: str, image: str) -> None:
    for container in containers(rendered(name), "engine"):
        assert container.image.partition(":")[0] == image


def test_a_canary_has_an_image_of_its_own() -> None:
    images = {
        pod.labels["gptoss/pool"]: pod.main.image for pod in pods(rendered("canary"), "engine")
    }
    assert images["canary"] == "gptoss-engine:0.2.0-rc.1"
    assert images["stable"] == images["small"] != images["canary"]


def test_a_canary_may_be_a_digest_though_the_others_have_a_tag() -> None:
    pools = {"canary": {"image": {"tag": "", "digest": DIGEST}}}
    objects = render(overlay("canary", engine={"pools": pools}, images={"engine": {"tag": "1.0"}}))
    found = {pod.labels["gptoss/pool"]: pod.main.image for pod in pods(objects, "engine")}
    assert found["canary"] == f"gptoss-engine@{DIGEST}"
    assert found["stable"] == "gptoss-engine:1.0"


def test_what_waits_for_the_weights_is_the_image_that_runs_after_it() -> None:
    """So that an engine's node pulls one image."""
    for pod in pods(rendered("canary"), "engine"):
        assert {container.image for container in pod.containers} == {pod.main.image}
