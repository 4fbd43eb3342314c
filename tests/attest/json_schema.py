"""As much of JSON Schema 2020-12 as the published schema uses, and no more: anything else fails."""

from __future__ import annotations

import re
from typing import Any

KNOWN = {
    *("$schema", "$id", "title", "description", "$defs", "$ref", "type", "const", "enum", "anyOf"),
    *("properties", "required", "additionalProperties", "propertyNames", "items"),
    *(
        "minItems",
        "maxItems",
        "minProperties",
        "minLength",
        "maxLength",
        "pattern",
        "minimum",
        "maximum",
    ),
}
KINDS = {"object": dict, "array": list, "string": str, "integer": int, "null": type(None)}


def faults(value: Any, schema: Any, root: Any, at: str = "") -> list[str]:
    """Where a value is not as a schema says."""
    if schema is True:
        return []
    if schema is False:
        return [f"{at}: not allowed"]
    assert set(schema) <= KNOWN, f"{set(schema) - KNOWN} is not checked here"
    found: list[str] = []
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        found += faults(value, root["$defs"][name], root, at)
    if "anyOf" in schema:
        tries = [faults(value, one, root, at) for one in schema["anyOf"]]
        found += [] if any(not one for one in tries) else min(tries, key=len)
    kinds = schema.get("type", list(KINDS))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not any(isinstance(value, KINDS[kind]) for kind in kinds) or isinstance(value, bool):
        return [*found, f"{at}: no {kinds}"]
    if "const" in schema and value != schema["const"]:
        found.append(f"{at}: not {schema['const']}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{at}: none of {schema['enum']}")
    return found + _parts(value, schema, root, at)


def _parts(value: Any, schema: Any, root: Any, at: str) -> list[str]:
    found: list[str] = []
    if isinstance(value, str):
        if not re.search(schema.get("pattern", ""), value):
            found.append(f"{at}: {value[:30]!r} does not match")
        found += _range(len(value), schema, "minLength", "maxLength", at)
    if isinstance(value, int):
        found += _range(value, schema, "minimum", "maximum", at)
    if isinstance(value, list):
        found += _range(len(value), schema, "minItems", "maxItems", at)
        for n, item in enumerate(value):
            found += faults(item, schema.get("items", True), root, f"{at}/{n}")
    if isinstance(value, dict):
        known = schema.get("properties", {})
        found += [
            f"{at}: {key} is missing" for key in schema.get("required", ()) if key not in value
        ]
        for key, item in value.items():
            other = schema.get("additionalProperties", True)
            found += faults(key, schema.get("propertyNames", True), root, f"{at}/{key}")
            found += faults(item, known.get(key, other), root, f"{at}/{key}")
    return found


def _range(number: int, schema: Any, low: str, high: str, at: str) -> list[str]:
    fine = schema.get(low, number) <= number <= schema.get(high, number)
    return [] if fine else [f"{at}: {number} is out of range"]
