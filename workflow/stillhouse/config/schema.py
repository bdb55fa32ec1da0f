"""What the JSON schema says of a config: errors in a line, defaults, numbers."""

import contextlib
import difflib
import math
import re
from functools import cache
from pathlib import Path

import jsonschema
import yaml

from stillhouse.errors import StillhouseError

SCHEMA = Path(__file__).parents[2] / "schemas" / "config.schema.yaml"


@cache
def schema():
    """Return the JSON schema of the config."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(SCHEMA.read_text(), Loader=loader)


def check(config):
    """Raise a StillhouseError with the line that says most of what the schema refuses."""
    _check_plain(config)
    validator = jsonschema.Draft202012Validator(schema())
    errors = [e for error in validator.iter_errors(config) for e in _inner(error)]
    # The deepest error says most: a wrong kind makes all keys of that kind look unknown.
    error = max(errors, key=lambda e: len(e.absolute_path), default=None)
    if error is not None:
        raise StillhouseError(_sentence(error))


def _inner(error):
    """Return what is wrong with the one alternative of a oneOf that a value was meant to be."""
    here = len(error.absolute_path)
    meant = [
        e
        for e in error.context
        if len(e.absolute_path) > here or e.validator not in ("const", "type")
    ]
    for e in meant:
        e.schema = {"description": error.schema.get("description"), **e.schema}
    return meant or [error]


def _check_plain(value, key=""):
    """Refuse what YAML can say and no schema sees: names that are numbers, NaN, infinity."""
    if isinstance(value, dict):
        for name, part in value.items():
            if not isinstance(name, str):
                quotes = "; YAML wants quotes around on, off, yes and no"
                hint = quotes if isinstance(name, bool) else ""
                raise StillhouseError(f"{key or 'the config'}: name {name!r} should be text{hint}")
            _check_plain(part, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for i, part in enumerate(value):
            _check_plain(part, f"{key}.{i}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise StillhouseError(f"{key}: is {value!r}; should be a finite number")


def _sentence(error):
    """Say one schema error as `key: what is wrong; what would be right`."""
    key = ".".join(str(part) for part in error.absolute_path) or "the config"
    value, rule, kind = error.instance, error.validator_value, error.validator
    if kind in ("additionalProperties", "unevaluatedProperties"):
        known = sorted(_properties(error.schema, value))
        unknown = next(k for k in value if k not in known)
        near = difflib.get_close_matches(str(unknown), known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        return f"{key}: unknown key {unknown!r}; {hint}"
    if kind == "required":
        absent = next(name for name in rule if name not in value)
        return f"{key}: {absent!r} is missing" + _meaning(
            _properties(error.schema, value).get(absent)
        )
    shown = f"{key}: is {value!r}" if kind != "propertyNames" else f"{key}: name {value!r}"
    wanted = {
        "type": f"should be of type {rule}",
        "enum": f"should be one of {', '.join(map(str, rule)) if kind == 'enum' else ''}",
        "const": f"should be {rule}",
        "minimum": f"should be at least {rule}",
        "maximum": f"should be at most {rule}",
        "exclusiveMinimum": f"should be more than {rule}",
        "exclusiveMaximum": f"should be less than {rule}",
        "pattern": f"should match {rule}",
        "uniqueItems": "should have each value once",
        "minItems": f"should have at least {rule} items",
        "maxItems": f"should have at most {rule} items",
        "minProperties": "should not be empty",
        "oneOf": "should be " + " or ".join(_brief(one) for one in rule) if kind == "oneOf" else "",
    }.get(kind, error.message)
    return f"{shown}; {wanted}" + _meaning(error.schema)


def _brief(one):
    return repr(one["const"]) if "const" in one else f"{one['type']}"


def _meaning(subschema):
    text = (subschema or {}).get("description")
    return f" ({text})" if text else ""


def definition(name):
    """Return one of the schema's ``$defs``."""
    return schema()["$defs"][name]


def _properties(subschema, value):
    """Return the property schemas that apply to an object, through $ref and if/then."""
    found = {}
    if "$ref" in subschema:
        found |= _properties(definition(subschema["$ref"].rsplit("/", 1)[1]), value)
    found |= subschema.get("properties", {})
    for branch in subschema.get("allOf", ()):
        condition = branch["if"]["properties"]
        if all(_fits(value.get(k), rule) for k, rule in condition.items()):
            found |= _properties(branch["then"], value)
    return found


def _fits(value, rule):
    return re.search(rule["pattern"], str(value)) if "pattern" in rule else value == rule["const"]


def _resolved(subschema):
    """Return a property's schema with what its $ref says, and the types that it allows."""
    if "$ref" in subschema:
        subschema = {**definition(subschema["$ref"].rsplit("/", 1)[1]), **subschema}
    alternatives = [subschema, *subschema.get("oneOf", ())]
    return subschema, {one["type"] for one in alternatives if "type" in one}


def read_text(value, subschema):
    """Return `value` with text turned into numbers where the schema wants numbers.

    YAML 1.1 reads 1e-3 as text, and Snakemake's --config all that lies deeper than one key.
    """
    subschema, types = _resolved(subschema)
    if isinstance(value, dict):
        known = _properties(subschema, value)
        other = subschema.get("additionalProperties") or {}
        return {k: read_text(v, known.get(k, other)) for k, v in value.items()}
    if isinstance(value, list):
        return [read_text(item, _branch(subschema, "items")) for item in value]
    if isinstance(value, str) and "string" not in types:
        for name, read in (("integer", int), ("number", float), ("boolean", _truth)):
            with contextlib.suppress(ValueError, KeyError):
                if name in types:
                    return read(value)
    return value


def _truth(text):
    return {"true": True, "false": False}[text.lower()]


def _branch(subschema, keyword):
    """Return what a schema, or the first of its alternatives that says so, has under a keyword."""
    alternatives = [subschema, *subschema.get("oneOf", ())]
    return next((one[keyword] for one in alternatives if keyword in one), {})


def fill(value, subschema):
    """Return `value` with defaults filled in and numbers as the schema's type."""
    subschema, types = _resolved(subschema)
    if isinstance(value, dict):
        known = _properties(subschema, value)
        filled = {k: rule["default"] for k, rule in known.items() if "default" in rule}
        other = subschema.get("additionalProperties") or {}
        return {k: fill(v, known.get(k, other)) for k, v in {**filled, **value}.items()}
    if isinstance(value, list):
        return [fill(item, subschema.get("items", {})) for item in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return float(value) if "number" in types else int(value) if "integer" in types else value
