"""Strict schemas: of Kubernetes' own objects for every release, and of custom resources.

Neither knows of enums that are not in the schema, of names, of quantities or of what one object
says of another: the other tests do.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from jsonschema import Draft202012Validator, ValidationError  # type: ignore[import-untyped]
from jsonschema.validators import extend  # type: ignore[import-untyped]
from kubernetes_validate import utils  # type: ignore[import-untyped]
from referencing import Registry, Resource

from tests.chart.render import Object

OLDEST: Final = "1.29"
_FOLDER: Final = Path(utils.__file__).parent / "kubernetes-json-schema"
_CRDS: Final = Path(__file__).parent / "crds"

_METADATA: Final = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"},
        "namespace": {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


def releases() -> list[str]:
    """Kubernetes from the oldest that the chart takes to the newest that has a schema here."""
    oldest = tuple(map(int, OLDEST.split(".")))
    numbers = {tuple(map(int, name.split(".")))[:2] for name in utils.all_versions()}
    return [f"{major}.{minor}" for major, minor in sorted(numbers) if (major, minor) >= oldest]


def errors(one: Object, release: str) -> list[str]:
    """What the API server of that release, or the custom resource's definition, has against it."""
    if one.group in custom_groups():
        validator = _custom(one.api, one.kind)
    else:
        validator = _builtin(release, one.api, one.kind)
    if validator is None:
        return [f"{one}: Kubernetes {release} has no {one.kind} in {one.api}"]
    found = sorted(validator.iter_errors(one.body), key=lambda e: [str(p) for p in e.absolute_path])
    return [f"{one}: {_line(error)}" for error in found]


def _line(error: ValidationError) -> str:
    where = ".".join(map(str, error.absolute_path)) or "(top)"
    return f"{where}: {str(error.message)[:300]}"


@cache
def _builtin(release: str, api: str, kind: str) -> Draft202012Validator | None:
    folder = _FOLDER / f"v{release}.0-local-strict"
    group, _, version = api.rpartition("/")
    short = f"{group.partition('.')[0]}-{version}" if group else version
    path = folder / f"{kind.lower()}-{short}.json"
    if not path.exists():
        return None
    return Draft202012Validator(json.loads(path.read_text()), registry=_registry(release))


@cache
def _registry(release: str) -> Registry[Any]:
    text = (_FOLDER / f"v{release}.0-local-strict" / "_definitions.json").read_text()
    registry: Registry[Any] = Registry()
    return Resource.from_contents(json.loads(text)) @ registry


@cache
def _definitions() -> Mapping[tuple[str, str], Mapping[str, Any]]:
    """The schema by API version and kind, of every version that is served."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found = {}
    for path in sorted(_CRDS.glob("*.yaml")):
        for document in yaml.load_all(path.read_text(), loader):
            spec = document["spec"]
            for version in spec["versions"]:
                if version["served"]:
                    api = f"{spec['group']}/{version['name']}"
                    found[api, spec["names"]["kind"]] = version["schema"]["openAPIV3Schema"]
    return found


@cache
def custom_groups() -> frozenset[str]:
    """The API groups of which there are definitions."""
    return frozenset(api.partition("/")[0] for api, _ in _definitions())


@cache
def _custom(api: str, kind: str) -> Draft202012Validator | None:
    schema = _definitions().get((api, kind))
    if schema is None:
        return None
    closed = _closed(schema)
    closed["properties"]["metadata"] = _METADATA
    return _CustomValidator({**closed, "required": [*closed.get("required", ()), "metadata"]})


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """JSON Schema of a structural schema: unknown names are errors, what has a default is not asked
    for, and Kubernetes' own keywords are said in JSON Schema's."""
    dropped = ("description", "default", "example", "nullable", "required")
    out = {key: value for key, value in schema.items() if key not in dropped}
    properties = schema.get("properties", {})
    for flag, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(out.get(flag), bool) and out.pop(flag):
            out[flag] = out.pop(limit)
    if properties:
        out["properties"] = {name: _closed(value) for name, value in properties.items()}
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), Mapping):
            out[keyword] = _closed(schema[keyword])
    if schema.get("type") == "object" and "additionalProperties" not in schema:
        out["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    required = [name for name in schema.get("required", ()) if "default" not in properties[name]]
    if required:
        out["required"] = required
    if schema.get("x-kubernetes-int-or-string"):
        out["type"] = ["integer", "string"]
        out.pop("anyOf", None)
    if schema.get("nullable") and isinstance(out.get("type"), str):
        out["type"] = [out["type"], "null"]
    return out


def _unique(
    validator: Draft202012Validator, keys: list[str], items: object, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    """Two items of a list that is a map by some of their names."""
    seen = set()
    for item in items if isinstance(items, list) else ():
        defaults = schema["items"]["properties"]
        key = tuple(repr(item.get(name, defaults.get(name, {}).get("default"))) for name in keys)
        if key in seen:
            yield ValidationError(f"two items have the same {', '.join(keys)}: {', '.join(key)}")
        seen.add(key)


_CustomValidator = extend(Draft202012Validator, {"x-kubernetes-list-map-keys": _unique})
