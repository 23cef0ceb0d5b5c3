"""`values.schema.json`: what Helm refuses before anything is rendered."""

from typing import Any, Final

from deploy.chart.values import Value

DEFINITIONS: Final[dict[str, Any]] = {
    "quantity": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?([KMGTP]i?|m)?$"},
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "image": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "repository": {"type": "string", "pattern": r"^[a-z0-9./_:-]*$"},
            "tag": {"type": "string", "pattern": r"^[A-Za-z0-9_.-]*$"},
            "digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
        },
    },
    "weightsImage": {
        "type": "object",
        "additionalProperties": False,
        "required": ["repository", "digest"],
        "properties": {
            "repository": {"type": "string", "pattern": r"^[a-z0-9./_:-]+$"},
            "digest": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
            "path": {"type": "string", "description": "folder of the model in the image"},
        },
    },
    "resources": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "requests": {"type": "object", "additionalProperties": {"$ref": "#/$defs/quantity"}},
            "limits": {"type": "object", "additionalProperties": {"$ref": "#/$defs/quantity"}},
        },
    },
}

# Without a network nothing may name a place outside: images come from a registry that is named, and
# weights from the claim or from images of that registry.
OFFLINE: Final[dict[str, Any]] = {
    "if": {"properties": {"offline": {"const": True}}, "required": ["offline"]},
    "then": {
        "properties": {
            "weights": {
                "properties": {
                    "endpoint": {"type": "string", "maxLength": 0},
                    "tokenSecret": {"type": "string", "maxLength": 0},
                }
            },
            "images": {"properties": {"registry": {"type": "string", "minLength": 1}}},
        }
    },
}

_TYPES: Final = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array"}


def schema(values: Value) -> dict[str, Any]:
    """The whole schema. Raises ValueError for a free map without a rule for what is in it."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "gptoss",
        "$defs": DEFINITIONS,
        **_of(values, top=True),
        **OFFLINE,
    }


def _of(value: Value, top: bool = False) -> dict[str, Any]:
    described = {"description": value.meaning} if value.meaning else {}
    if "$ref" in value.rule:
        # Beside a $ref draft 7 ignores everything, so the reference stands in a list of its own.
        return {**described, "allOf": [dict(value.rule)]}
    if isinstance(value.default, dict):
        return {**described, "type": "object", **_names(value, top)}
    kind = _TYPES[type(value.default)]
    return {**described, "type": kind, **value.rule}


def _names(value: Value, top: bool) -> dict[str, Any]:
    if value.children:
        # Helm hands a chart `global` whether it is used or not.
        extra = {"global": {"type": "object"}} if top else {}
        properties = {child.path[-1]: _of(child) for child in value.children}
        return {"additionalProperties": False, "properties": {**properties, **extra}}
    if "additionalProperties" not in value.rule:
        raise ValueError(f"{value.name}: a map needs `# @schema {{additionalProperties: …}}`")
    return dict(value.rule)
