"""`list`: all that an installation needs, from what Helm prints."""

import json

import pytest

from deploy.airgap import name, rendered
from deploy.airgap.fault import Fault
from service.models.known import MODELS
from tests.airgap.world import airgap, offline, printed
from tests.chart.pods import containers, pods
from tests.chart.render import overlay, overlays
from tests.chart.render import rendered as objects_of

every_overlay = pytest.mark.parametrize("overlay_name", overlays())


@every_overlay
def test_every_image_of_every_pod_is_listed_once(overlay_name: str) -> None:
    objects = objects_of(overlay_name)
    volumes = [v for pod in pods(objects) for v in pod.volumes.values() if "image" in v]
    wanted = {c.image for c in containers(objects)} | {v["image"]["reference"] for v in volumes}
    assert rendered.read(printed(overlay(overlay_name))).images == sorted(wanted)


@every_overlay
def test_every_model_of_every_pool_is_listed_with_its_size(overlay_name: str) -> None:
    served = {
        word.removeprefix("--model=")
        for one in containers(objects_of(overlay_name), "engine")
        for word in one.command
        if word.startswith("--model=")
    }
    models = rendered.read(printed(overlay(overlay_name))).models
    assert {model.name for model in models} == served
    for model in models:
        published = MODELS[model.name]
        assert model.gigabytes * 10**9 >= (published.download_bytes if published.repo else 0)
        assert (model.origin == rendered.BUILT) == (published.repo is None)


def test_the_repository_of_a_model_is_its_name() -> None:
    """What deploy.airgap.weights takes for granted, since it can import nothing."""
    assert {m.repo for m in MODELS.values() if m.repo} == {
        f"openai/{m.name}" for m in MODELS.values() if m.repo
    }


def test_models_of_images_are_no_ones_on_a_claim() -> None:
    models = rendered.read(printed(overlay("weights-image"))).models
    assert {model.origin for model in models} == {rendered.IMAGE}


def test_the_pod_of_helm_test_and_a_revision_count() -> None:
    text = offline(weights={"claim": "weights", "revision": "a" * 40})
    needs = rendered.read(text)
    assert [model.revision for model in needs.models] == ["a" * 40]
    alone = "kind: Pod\nspec: {containers: [{image: selftest:1}]}"
    assert "selftest:1" in rendered.read(f"{text}\n---\n{alone}").images


def test_it_is_printed_for_people_and_for_programs() -> None:
    text = offline()
    said = airgap("list", "-", given=text)
    assert "image  registry.internal/serving/gptoss-gateway:0.1.0\n" in said.out
    assert "model  gpt-oss-20b at main, 14 GB, from the claim\n" in said.out
    data = json.loads(airgap("list", "--json", "-", given=text).out)
    assert data["images"] == rendered.read(text).images
    assert data["models"][0]["gigabytes"] == 14


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "that is no YAML"),
        ("kind: Service", "there is no pod in it"),
        ("", "no pod"),
        ("\0", "no YAML"),
    ],
)
def test_what_helm_did_not_print_is_told_in_one_line(text: str, says: str) -> None:
    done = airgap("list", "-", given=text)
    assert done.status == 1
    assert says in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("images", "registry", "names"),
    [
        (["a:1", "b/c:1"], None, ["a:1", "b/c:1"]),
        (["h.x/a:1", "postgres:1"], None, ["h.x/a:1", "postgres:1"]),
        (["h.x/f/a:1", "h.x/f/b/c:1"], "h.x/f", ["a:1", "b/c:1"]),
        (["h.x/f/a:1", "h.x/f/b:1"], "h.x/", ["f/a:1", "f/b:1"]),
        (["h.x/f/a:1"], "", ["h.x/f/a:1"]),
    ],
)
def test_a_name_is_what_the_chart_puts_the_registry_before(
    images: list[str], registry: str | None, names: list[str]
) -> None:
    assert name.within(images, registry) == dict(zip(names, images, strict=True))


@pytest.mark.parametrize(
    ("registry", "says"), [(None, "--registry h.x:5000/f`"), ("other.x", "is not from other.x")]
)
def test_a_registry_that_cannot_be_known_is_asked_for(registry: str | None, says: str) -> None:
    with pytest.raises(Fault, match="registry") as caught:
        name.within(["h.x:5000/f/a:1", "h.x:5000/f/b/c:1"], registry)
    assert says in str(caught.value)
