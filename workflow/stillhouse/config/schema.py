"""The JSON schema of a config: errors in one line, defaults, numbers.

The schema of a method's settings is ``schemas/methods/<kind>.yaml``: ``title``, for the
description of the key ``kind``, ``required`` and ``properties``, or a ``$ref`` to settings shared
with other kinds, and own ``$defs``.
"""

import contextlib
import math
from datetime import date
from functools import cache
from pathlib import Path

import jsonschema
import yaml

from stillhouse.config.renamed import hint, value_hint
from stillhouse.errors import StillhouseError, suggestion

SCHEMA = Path(__file__).parents[2] / "schemas" / "config.schema.yaml"
METHODS = SCHEMA.parent / "methods"

# Names of JSON types in messages.
TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
    "object": "a mapping",
    "string": "text",
}
# Requirement on a value, by the violated keyword of the schema.
RULES = {
    "minimum": "be at least {}",
    "maximum": "be at most {}",
    "exclusiveMinimum": "be more than {}",
    "exclusiveMaximum": "be less than {}",
    "pattern": "match {}",
    "uniqueItems": "have each value once",
    "minLength": "have at least {} character{s}",
    "minItems": "have at least {} item{s}",
    "maxItems": "have at most {} item{s}",
    "minProperties": "have at least {} key{s}",
    "maxProperties": "have at most {} key{s}",
}
# Keywords of objects that allow no other keys than the schema's.
CLOSED = ("additionalProperties", "unevaluatedProperties")
# Characters of a value in a message.
SHOWN = 80


@cache
def schema():
    """Return the JSON schema of a config."""
    return assemble(METHODS)


def assemble(folder):
    """Return the JSON schema of a config with one kind of method per file of a folder.

    Parameters
    ----------
    folder : Path
        With ``<kind>.yaml`` for each kind.

    Raises
    ------
    StillhouseError
        If two files have a definition of the same name in ``$defs``.
    """
    assembled = _read(SCHEMA)
    definitions, titles = assembled["$defs"], {}
    method = {**definitions["method"], "allOf": []}
    for path in sorted(folder.glob("*.yaml")):
        settings, kind = _read(path), path.stem
        own = {f"method_{kind}": settings, **settings.pop("$defs", {})}
        for name in own.keys() & definitions.keys():
            raise StillhouseError(f"{path}: $defs: {name!r} conflicts with another file; rename it")
        definitions |= own
        titles[kind] = settings.pop("title")
        condition = {"properties": {"kind": {"const": kind}}}
        method["allOf"].append({"if": condition, "then": {"$ref": f"#/$defs/method_{kind}"}})
    method["properties"] = {
        **method["properties"],
        "kind": {
            "enum": list(titles),
            "description": "; ".join(f"`{kind}`: {title}" for kind, title in titles.items()),
        },
    }
    definitions["method"] = method
    return assembled


def _read(path):
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)


def definition(name):
    """Return one of the schema's ``$defs``."""
    return schema()["$defs"][name]


def check(config):
    """Raise a `StillhouseError` with the most specific violation of the schema, in one line."""
    _check_values(config, [])
    validator = jsonschema.Draft202012Validator(schema())
    errors = [e for error in validator.iter_errors(config) for e in _of_alternative(error)]
    errors = [e for e in errors if e.validator not in CLOSED or _unknown_keys(e)]
    errors.sort(key=lambda e: _place(config, e.absolute_path))
    # The deepest error is the most specific: an unknown kind makes all keys of that kind unknown. A
    # misspelt key is also missing; the message must be about the key as it is written.
    error = max(errors, key=lambda e: (len(e.absolute_path), e.validator in CLOSED), default=None)
    if error is not None:
        raise StillhouseError(_message(error))


def _place(config, path):
    """Return the place of a path in a config: the positions of its keys."""
    places = []
    for key in path:
        places.append(list(config).index(key) if isinstance(config, dict) else key)
        config = config[key]
    return places


def _check_values(value, path):
    """Raise for values that JSON lacks: keys that are not text, NaN, infinity."""
    key = _dotted(path)
    if isinstance(value, dict):
        for name, part in value.items():
            if not isinstance(name, str):
                remedy = hint(path, name) or "put it in quotes"
                raise StillhouseError(f"{key}: key {name!r} must be text; {remedy}")
            _check_values(part, [*path, name])
    elif isinstance(value, list):
        for i, part in enumerate(value):
            _check_values(part, [*path, i])
    elif isinstance(value, float) and not math.isfinite(value):
        raise StillhouseError(f"{key}: must be a finite number, not {value!r}")


def _of_alternative(error):
    """Return the errors of the alternative of a ``oneOf`` with the type of the value."""
    depth = len(error.absolute_path)
    of_alternative = [
        e
        for e in error.context
        if len(e.absolute_path) > depth or e.validator not in ("const", "type")
    ]
    return of_alternative or [error]


def _unknown_keys(error):
    """Return the unknown keys of an object.

    The validator also reports valid keys of an object with another error, as not evaluated.
    """
    keys = properties(error.schema, error.instance)
    return [name for name in error.instance if name not in keys]


def _message(error):
    """Return an error of the schema as `<key>: <problem>; <remedy>`."""
    path, value, rule = list(error.absolute_path), error.instance, error.validator_value
    if error.validator in CLOSED:
        unknown, keys = _unknown_keys(error)[0], properties(error.schema, value)
        remedy = hint(path, unknown, keys) or suggestion(unknown, keys)
        return f"{_dotted(path)}: unknown key {unknown!r}; {remedy}"
    if error.validator == "required":
        name = next(name for name in rule if name not in value)
        about = properties(error.schema, value).get(name, {}).get("description")
        return f"{_dotted([*path, name])}: missing" + (f" ({about})" if about else "")
    must = _must(error)
    if "propertyNames" in error.absolute_schema_path:
        return f"{_dotted(path)}: name {value!r} must {must}"
    shown = repr(value)
    if len(shown) > SHOWN:
        shown = shown[:SHOWN] + "…"
    remedy = value_hint(path, value)
    if remedy:
        return f"{_dotted(path)}: must {must}, not {shown}; {remedy}"
    quotes = "; put it in quotes" if _is_unquoted(error) else ""
    return f"{_dotted(path)}: must {must}, not {shown}" + _about(error) + quotes


def _is_unquoted(error):
    """Return whether a value must be text and is what YAML makes of digits, dates, yes or null."""
    alternatives = error.validator_value if error.validator == "oneOf" else [error.schema]
    is_text = any(one.get("type") == "string" for one in alternatives)
    return is_text and isinstance(error.instance, int | float | date | None)


def _about(error):
    """Return the description of an error's key in brackets; none for choices."""
    alternatives = error.parent.schema if error.parent else {}
    about = error.schema.get("description", alternatives.get("description"))
    return f" ({about})" if about and error.validator != "enum" else ""


def _must(error):
    """Return the requirement of the violated rule: "be at least 1"."""
    rule = error.validator_value
    if error.validator == "type":
        return f"be {TYPES[rule]}"
    if error.validator == "enum":
        return f"be one of {', '.join(map(str, rule))}"
    if error.validator == "oneOf":
        choices = [repr(r["const"]) if "const" in r else TYPES[r["type"]] for r in rule]
        return f"be {' or '.join(choices)}"
    if error.validator in RULES:
        return RULES[error.validator].format(rule, s="" if rule == 1 else "s")
    return f"satisfy {error.validator}: {rule}"


def _dotted(path):
    return ".".join(map(str, path)) or "the config"


def resolve(subschema, root):
    """Return a subschema merged into the definition of its ``$ref``.

    The keys of an object, and those that it requires, are of both.

    Parameters
    ----------
    subschema : dict
    root : dict
        Complete schema, with its ``$defs``.
    """
    if "$ref" not in subschema:
        return subschema
    own = {keyword: rule for keyword, rule in subschema.items() if keyword != "$ref"}
    referred = resolve(root["$defs"][subschema["$ref"].rpartition("/")[2]], root)
    merged = {**referred, **own}
    if "properties" in own:
        merged["properties"] = {**referred.get("properties", {}), **own["properties"]}
    if "required" in own:
        merged["required"] = [*referred.get("required", ()), *own["required"]]
    return merged


def properties(subschema, value):
    """Return {key: subschema} of the keys allowed in an object, including those of its kind."""
    subschema = resolve(subschema, schema())
    keys = {k: resolve(rule, schema()) for k, rule in subschema.get("properties", {}).items()}
    for branch in subschema.get("allOf", ()):
        if jsonschema.Draft202012Validator(branch["if"]).is_valid(value):
            keys |= properties(branch["then"], value)
    return keys


def read_text(value, subschema):
    """Return a value with text converted to numbers where the schema has numbers.

    YAML 1.1 loads 1e-3 as text, and Snakemake's --config loads nested values as text.
    """
    return _convert(value, subschema, _from_text, with_defaults=False)


def fill(value, subschema):
    """Return a value with the schema's defaults and numbers of the schema's types."""
    return _convert(value, subschema, _as_number, with_defaults=True)


def _convert(value, subschema, convert, with_defaults):
    """Apply `convert(value, types)` to all values that are not objects or lists."""
    subschema = resolve(subschema, schema())
    alternatives = [subschema, *subschema.get("oneOf", ())]

    def inner(value, subschema):
        return _convert(value, subschema or {}, convert, with_defaults)

    def rule_of(keyword):
        return next((one[keyword] for one in alternatives if keyword in one), {})

    if isinstance(value, dict):
        keys, other = properties(subschema, value), rule_of("additionalProperties")
        if with_defaults:
            defaults = {k: rule["default"] for k, rule in keys.items() if "default" in rule}
            value = {**defaults, **value}
        return {name: inner(part, keys.get(name, other)) for name, part in value.items()}
    if isinstance(value, list):
        return [inner(item, rule_of("items")) for item in value]
    return convert(value, {one["type"] for one in alternatives if "type" in one})


def _from_text(value, types):
    if not isinstance(value, str) or "string" in types:
        return value
    for name, read in (("integer", int), ("number", float), ("boolean", _truth)):
        with contextlib.suppress(ValueError, KeyError):
            if name in types:
                return read(value)
    return value


def _truth(text):
    return {"true": True, "false": False}[text.lower()]


def _as_number(value, types):
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return float(value) if "number" in types else int(value) if "integer" in types else value
