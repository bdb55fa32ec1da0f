"""The table of every config key, made from the JSON schema and put into README.md.

PYTHONPATH=workflow python docs/config_table.py
"""

import re
from pathlib import Path

from stillhouse.config import schema

README = Path(__file__).parents[1] / "README.md"
BEGIN = "<!-- config table: begin, made by docs/config_table.py -->"
END = "<!-- config table: end -->"
HEADER = ["| key | default | unit or range | meaning |", "| --- | --- | --- | --- |"]
TYPES = {"array": "list", "boolean": "`true` or `false`", "object": "keys", "string": "text"}


def table(schema):
    """Return the config keys of a schema as Markdown.

    A section a top-level key, in the schema's order; keys that belong to one kind follow under it.

    Parameters
    ----------
    schema : dict
        The JSON schema, with its ``$defs``.
    """
    lines, required = [], schema.get("required", ())
    for name, section in schema["properties"].items():
        section = expand(section, schema)
        entry = section.get("additionalProperties")
        lines += [f"### `{name}`", "", _about(name, section, name in required), ""]
        entry = expand(entry, schema) if isinstance(entry, dict) else section
        lines += _rows(entry, schema)
        for kind, keys in kinds(entry, schema):
            end = ":" if keys["properties"] else " has no other keys."
            lines += [f"{kind}{end}", ""]
            lines += _rows(keys, schema)
    return "\n".join(lines).rstrip() + "\n"


def insert(readme_text, table):
    """Return a README's text with `table` between its two markers."""
    before, _, rest = readme_text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{README.name}: should have the line {BEGIN!r} and, below it, {END!r}")
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"


def expand(subschema, schema):
    """Return a subschema with its ``$ref`` replaced by what it names; what stands beside it wins.

    Brackets at the end of the description become ``unit`` ("[px]") or, if they have a colon or
    name another key, ``defaults`` ("[code: pad, paper: pad]", "[`inversion_steps` alone]").
    """
    if "$ref" in subschema:
        subschema = {**schema["$defs"][subschema["$ref"].rsplit("/", 1)[1]], **subschema}
    text = subschema.get("description", "")
    found = re.search(r"\s*\[([^\[\]]+)\]$", text)
    if not found:
        return subschema
    what = "defaults" if {":", "`"} & set(found[1]) else "unit"
    return {**subschema, "description": text[: found.start()], what: found[1]}


def kinds(entry, schema):
    """Return [(kinds as text, subschema)] of the keys that a section has for some kinds only."""
    words = {}
    for branch in entry.get("allOf", ()):
        ((name, rule),) = branch["if"]["properties"].items()
        kind = rule["const"] if "const" in rule else rule["pattern"].lstrip("^") + "…"
        words.setdefault(branch["then"]["$ref"], []).append(f"`{name}: {kind}`")
    return [(_either(some), expand({"$ref": ref}, schema)) for ref, some in words.items()]


def keys_of(subschema, schema, prefix=""):
    """Yield (dotted key, its subschema, whether it must be given); objects before their keys."""
    required = subschema.get("required", ())
    for name, rule in subschema.get("properties", {}).items():
        rule = expand(rule, schema)
        yield prefix + name, rule, name in required
        yield from keys_of(rule, schema, f"{prefix}{name}.")


def _about(name, section, required):
    text = section["description"] + ("" if required else "; may be left out")
    text = text[0].upper() + text[1:] + "."
    named = isinstance(section.get("additionalProperties"), dict)
    return f"{text} Keys of `{name}.<name>`:" if named else text


def _rows(subschema, schema):
    rows = []
    for key, rule, required in keys_of(subschema, schema):
        default = _default(rule)
        if required:
            default = f"required in `{key.rpartition('.')[0]}`" if "." in key else "required"
        cells = (f"`{key}`", default, values(rule, schema), rule["description"])
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return [*HEADER, *rows, ""] if rows else []


def _default(rule):
    if "default" in rule and rule.get("type") != "object":
        return _code(rule["default"])
    return rule.get("defaults", "–")


def values(rule, schema):
    """Say which values a key may have, and their unit: "integer, ≥ 1, images"."""
    if "oneOf" in rule:
        what = _either([values(expand(one, schema), schema) for one in rule["oneOf"]])
    elif "enum" in rule or "const" in rule:
        what = _either([_code(value) for value in rule.get("enum", [rule.get("const")])])
    elif "pattern" in rule:
        what = _either([f"`{one}`" for one in _alternatives(rule["pattern"])])
    elif rule["type"] == "array":
        what = _list(rule, schema)
    else:
        what = TYPES.get(rule["type"], rule["type"])
    return ", ".join(filter(None, [what, _bounds(rule), rule.get("unit")]))


def _list(rule, schema):
    low, high = rule.get("minItems", 0), rule.get("maxItems")
    item, *more = values(expand(rule["items"], schema), schema).split(", ")
    if item in ("integer", "number", "text"):
        item += "s"
    count = f"{low} {item}" if low == high else f"list of {item}"
    return ", ".join([count, *more, *([f"at least {low}"] if low > 1 and low != high else [])])


def _alternatives(pattern):
    """Split ``^(a|b)$`` at the bars that lie in no inner parentheses."""
    whole = re.sub(r"^\^\(?|\)?\$$", "", pattern)
    return re.findall(r"(?:[^|()]|\([^()]*\)\??)+", whole)


def _bounds(rule):
    """Return the interval of a number: "≥ 1", "> 0", "4 to 1024", "0 ≤ … < 1"."""
    low = [f"{rule[k]} {s}" for k, s in (("minimum", "≤"), ("exclusiveMinimum", "<")) if k in rule]
    high = [f"{s} {rule[k]}" for k, s in (("maximum", "≤"), ("exclusiveMaximum", "<")) if k in rule]
    if "minimum" in rule and "maximum" in rule:
        return f"{rule['minimum']} to {rule['maximum']}"
    if low and high:
        return f"{low[0]} … {high[0]}"
    if low:
        return f"≥ {rule['minimum']}" if "minimum" in rule else f"> {rule['exclusiveMinimum']}"
    return high[0] if high else ""


def _either(words):
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _code(value):
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`"


if __name__ == "__main__":
    text = README.read_text()
    README.write_text(insert(text, table(schema.schema())))
