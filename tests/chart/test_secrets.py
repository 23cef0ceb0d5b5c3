"""Secrets that the chart makes: long, random, made once, and in no other place."""

import base64

import pytest

from service.settings import MIN_SECRET_LENGTH
from tests.chart.pods import strings
from tests.chart.render import EVERY_API, Objects, manifests, overlay, overlays, render, some

every_overlay = pytest.mark.parametrize("name", overlays())

RANDOM = ("engine-key", "admin-token", "password")


def secrets(objects: Objects) -> dict[tuple[str, str], str]:
    """Decoded, by the Secret's name and the key."""
    return {
        (one.name, key): base64.b64decode(value).decode()
        for one in some(objects, "Secret")
        for key, value in one.body["data"].items()
    }


@every_overlay
def test_they_are_long_and_different_each_time(name: str) -> None:
    first, second = (secrets(render(overlay(name), apis=EVERY_API)) for _ in range(2))
    assert first.keys() == second.keys()
    chosen = {place: value for place, value in first.items() if place[1] in RANDOM}
    assert len(set(chosen.values())) == len(chosen), "none is used twice"
    for place, value in chosen.items():
        assert len(value) >= MIN_SECRET_LENGTH
        assert value != second[place]
        assert value.isalnum(), "it stands in URLs and in files"


@every_overlay
def test_nothing_but_secrets_holds_them(name: str) -> None:
    objects = render(overlay(name), apis=EVERY_API)
    values = [value for (_, key), value in secrets(objects).items() if key in RANDOM]
    for one in objects:
        if one.kind != "Secret":
            assert not any(value in text for value in values for text in strings(one.body))


@every_overlay
def test_the_notes_tell_none(name: str) -> None:
    texts = manifests(overlay(name), apis=EVERY_API)
    (notes,) = [text for path, text in texts.items() if path.endswith("NOTES.txt")]
    assert notes.strip()
    assert not any(word in notes.lower() for word in ("password", "engine-key:", "token:"))


def test_the_urls_of_the_trial_stores_hold_their_passwords() -> None:
    found = secrets(render(overlay("minimal")))
    by_key = {(name.rpartition("-")[2], key): value for (name, key), value in found.items()}
    password = by_key["postgresql", "password"]
    host = "gptoss-postgresql.serving.svc.cluster.local."
    assert by_key["postgresql", "url"] == f"postgresql://gptoss:{password}@{host}:5432/gptoss"
    password = by_key["valkey", "password"]
    host = "gptoss-valkey.serving.svc.cluster.local."
    assert by_key["valkey", "url"] == f"redis://:{password}@{host}:6379"
    assert f"requirepass {password}\n" in by_key["valkey", "valkey.conf"]


def test_none_is_made_where_all_are_there() -> None:
    assert not some(render(overlay("existing-stores"), apis=EVERY_API), "Secret")


def test_a_password_of_data_that_stays_stays() -> None:
    """The volume of a StatefulSet outlives the release; a new password would not open it."""
    for one in some(render(overlay("minimal")), "Secret"):
        if one.component == "postgresql":
            assert one.annotations["helm.sh/resource-policy"] == "keep"
