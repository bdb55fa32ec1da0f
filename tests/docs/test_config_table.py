"""The tables of docs/configuration.md equal those of docs/config_table.py."""

import re
from pathlib import Path

import pytest
from stillhouse.config import schema

from docs import config_table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/configuration.md"


def keys_of(node):
    """Return the names of all properties in a piece of schema; conditions do not count."""
    if isinstance(node, list):
        return set().union(*map(keys_of, node))
    if not isinstance(node, dict):
        return set()
    names = set(node.get("properties", {}))
    return names.union(*(keys_of(value) for name, value in node.items() if name != "if"))


def rows_of(text):
    return [
        re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| `")
    ]


def keys(text):
    return [row[0].strip().strip("`") for row in rows_of(text)]


def kinds_of(text, section):
    """Return a section's table of all kinds, and {kind: table of the kind}."""
    part = text.split(f"### `{section}`")[1].split("### ")[0]
    common, *rest = re.split(r"^(`kind: .*`)(?:| has no other keys\.|:)$", part, flags=re.M)
    about = dict(zip(rest[::2], rest[1::2], strict=True))
    return common, {kind: text for k, text in about.items() for kind in re.findall(r": (\w+)`", k)}


def test_the_page_is_up_to_date():
    text = PAGE.read_text()
    assert config_table.insert(text, config_table.table(schema.schema())) == text, (
        "run `make format`"
    )


def test_every_key_of_the_schema_appears():
    text = config_table.table(schema.schema())
    documented = {row[0].strip().strip("`").split(".")[-1] for row in rows_of(text)}
    documented |= set(re.findall(r"^### `(\w+)`$", text, re.M))
    assert keys_of(schema.schema()) == documented


def test_no_unit_is_left_in_the_meaning():
    meanings = [row[3] for row in rows_of(config_table.table(schema.schema()))]
    assert not [text for text in meanings if re.search(r"\[[a-z%]+\]", text)]


def test_a_description_may_have_a_unit_and_defaults():
    rule = config_table.expand({"description": "side [px] [code: 1, paper: 2]"}, {})
    assert rule == {"description": "side", "unit": "px", "defaults": "code: 1, paper: 2"}


def test_every_row_is_complete():
    for row in rows_of(config_table.table(schema.schema())):
        assert len(row) == 4, row
        assert all(cell.strip() for cell in row), row


def test_rows_have_default_unit_and_range():
    text = config_table.table(schema.schema())
    rows = {tuple(cell.strip() for cell in row[:3]) for row in rows_of(text)}
    assert ("`resolution`", "required", "integer, 4 to 1024, px") in rows
    assert ("`crop`", "`[0.08, 1.0]`", "2 numbers, 0 < … ≤ 1") in rows
    assert ("`scoring`", "code: pad, paper: pad", "`pad` or `resize`") in rows
    assert ("`snapshots`", "`inversion_steps` alone", "list of integers, 1 to 1000") in rows
    assert ("`images_per_class`", "`all`", "`all` or integer, 2 to 1000000000, images") in rows
    assert ("`class_labels`", "–", "text or keys") in rows
    assert ("`latents`", "`sample`", "`sample` or `mode`") in rows
    assert ("`views.mix`", "`cutmix`", "`none`, `cutmix` or `mixup`") in rows
    assert ("`weights.sha256`", "–", "`[0-9a-f]{64}`") in rows
    assert ("`device`", "`auto`", "`auto`, `cpu` or `cuda(:[0-9]+)?`") in rows


def test_a_key_that_its_section_requires_is_marked():
    part = {"type": "object", "description": "part", "required": ["b"]}
    inner = {**part, "properties": {"b": {"type": "string", "description": "letter"}}}
    section = {**part, "properties": {"a": inner}}
    text = config_table.table({"properties": {"s": section}})
    assert "| `a.b` | required in `a` | text | letter |" in text


def test_every_kind_has_its_keys():
    text = config_table.table(schema.schema())
    common, methods = kinds_of(text, "methods")
    assert keys(common) == ["kind", "fidelity"]
    assert list(methods) == [
        *(
            "cda",
            "edc",
            "gvbsm",
            "sre2l",
            "compressed",
            "d3hr",
            "d4m",
            "ddps",
            "dm",
            "given",
            "gm",
            "herding",
        ),
        *("kmeans", "random", "rded", "ruo", "tm"),
    ]
    assert keys(methods["random"]) == ["encoding"]
    assert "teacher" in keys(methods["rded"])
    assert keys(methods["herding"]) == ["feature_space", "encoding"]
    assert methods["herding"] == methods["kmeans"]
    assert all("denoiser" in keys(methods[kind]) for kind in ("ddps", "d3hr", "d4m"))
    assert "loss_weights.skewness" in keys(methods["d3hr"])
    assert keys(methods["sre2l"])[:2] == ["observers", "initial"]
    assert methods["sre2l"] == methods["cda"] == methods["gvbsm"] == methods["edc"]
    assert {"real_images", "initial"} <= set(keys(methods["dm"])) < set(keys(methods["gm"]))
    assert "experts.count" in keys(methods["tm"])
    assert {"decoder", "warmup.beta", "bound"} <= set(keys(methods["compressed"]))
    assert {"decoder", "warmup.beta", "joint.lambda"} <= set(keys(methods["ruo"]))
    common, denoisers = kinds_of(text, "denoisers")
    assert keys(common)[:2] == ["kind", "resolution"]
    assert {"class_labels", "train", "train.network.ema"} <= set(keys(denoisers["dit"]))
    assert keys(denoisers["stable_diffusion"]) == ["names", "prompt", "null_prompt"]


def test_text_around_the_markers_is_unchanged():
    text = f"above\n{config_table.BEGIN}\nold\n{config_table.END}\nbelow\n"
    once = config_table.insert(text, "new\n")
    assert once == f"above\n{config_table.BEGIN}\n\nnew\n\n{config_table.END}\nbelow\n"
    assert config_table.insert(once, "new\n") == once


@pytest.mark.parametrize("text", ["", "{begin}", "{end}", "{end} {begin}"])
def test_a_missing_marker_is_an_error(text):
    with pytest.raises(ValueError, match="missing line"):
        config_table.insert(text.format(begin=config_table.BEGIN, end=config_table.END), "new")
