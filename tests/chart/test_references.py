"""Whatever an object names is there: rendered beside it, or named by the values."""

import base64

import pytest

from tests.chart.pods import pods, strings
from tests.chart.references import references
from tests.chart.render import Object, overlay, overlays, rendered

every_overlay = pytest.mark.parametrize("name", overlays())


@every_overlay
def test_everything_that_is_named_exists(name: str) -> None:
    objects = rendered(name)
    there = {(one.kind, one.name) for one in objects}
    given = set(strings(overlay(name)))
    for reference in references(objects):
        if (reference.kind, reference.name) not in there:
            assert reference.name in given, str(reference)


@every_overlay
def test_a_key_that_is_named_is_in_the_secret_or_map(name: str) -> None:
    objects = rendered(name)
    there = {(one.kind, one.name): one for one in objects}
    for reference in references(objects):
        target = there.get((reference.kind, reference.name))
        if target is not None and reference.key:
            assert reference.key in _keys(target), str(reference)


def _keys(target: Object) -> set[str]:
    """Of a Secret or a ConfigMap."""
    names = ("data", "stringData", "binaryData")
    return {key for name in names for key in target.body.get(name) or {}}


@every_overlay
def test_a_path_that_is_mounted_from_a_map_is_a_key_of_it(name: str) -> None:
    """`subPath` of a key that is not there would make an empty folder."""
    objects = rendered(name)
    there = {(one.kind, one.name): one for one in objects}
    for pod in pods(objects):
        for container in pod.containers:
            for mount in container.body.get("volumeMounts") or ():
                volume = pod.volumes.get(mount["name"], {})
                for kind, field, key in (
                    ("ConfigMap", "configMap", "name"),
                    ("Secret", "secret", "secretName"),
                ):
                    source = there.get((kind, (volume.get(field) or {}).get(key, "")))
                    if source is not None and "subPath" in mount:
                        assert mount["subPath"] in _keys(source), f"{container}: {mount}"


@every_overlay
def test_secrets_are_base64_of_something(name: str) -> None:
    for one in rendered(name):
        if one.kind == "Secret":
            for key, value in (one.body.get("data") or {}).items():
                assert base64.b64decode(value, validate=True), f"{one} {key}"
