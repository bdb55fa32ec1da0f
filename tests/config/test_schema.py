"""The schema: one file per kind of method, one line per error, numbers and defaults."""

import copy
import re
import shutil
from pathlib import Path

import pytest
import yaml
from stillhouse.config import includes, schema
from stillhouse.errors import StillhouseError

ROOT = Path(__file__).parents[2]
PRESETS = sorted((ROOT / "workflow/presets").glob("*.yaml"))
KINDS = {
    *("random", "herding", "kmeans", "rded", "ddps", "d3hr", "d4m", "sre2l", "gvbsm", "edc"),
    *("cda", "dm", "gm", "tm", "compressed", "ruo", "given"),
}
FOLDER = {"kind": "image_folder", "root": "pets", "classes": ["cat", "dog"], "smallest_class": 40}
EDC = {"kind": "edc", "observers": ["t"]}
D3HR = {"kind": "d3hr", "denoiser": "dit"}


def put(path, value):
    """Return a change of a config: `value` at a path of keys."""

    def change(config):
        *way, last = path.split(".")
        for step in way:
            config = config[step]
        config[last] = value

    return change


def drop(path):
    """Return a change of a config: no value at a path of keys."""

    def change(config):
        *way, last = path.split(".")
        for step in way:
            config = config[step]
        del config[last]

    return change


# A change of the tiny config, and the beginning of its message.
REFUSED = {
    "unknown section": (
        put("teacher", {}),
        "the config: unknown key 'teacher'; did you mean 'teachers'?",
    ),
    "unknown key": (
        put("teachers.t.learning_rat", 1),
        "teachers.t: unknown key 'learning_rat'; did you mean 'learning_rate'?",
    ),
    "unknown key without a near one": (
        put("students.s.zzz", 1),
        "students.s: unknown key 'zzz'; available: arch, norm, width",
    ),
    "unknown key of a kind": (
        put("methods.rded.crops_per_imag", 1),
        "methods.rded: unknown key 'crops_per_imag'; did you mean 'crops_per_image'?",
    ),
    "key of another kind": (
        put("methods.random.crop", [0.1, 1]),
        "methods.random: unknown key 'crop'; available: encoding, fidelity, kind",
    ),
    "key of another architecture": (
        put("students.s", {"arch": "resnet18_modified", "width": 64}),
        "students.s: unknown key 'width'; available: arch, stem_init",
    ),
    "unknown key of a group": (
        put("labels.soft.views.fliip", 1),
        "labels.soft.views: unknown key 'fliip'; did you mean 'flip'?",
    ),
    "renamed key": (
        put("methods.e", {**EDC, "turns": "restart"}),
        "methods.e: unknown key 'turns'; renamed to 'observer_order'",
    ),
    "renamed key that is required": (
        put("methods.h", {"kind": "herding", "features": "pixels"}),
        "methods.h: unknown key 'features'; renamed to 'feature_space'",
    ),
    "renamed key that the kind lacks": (
        put("methods.rded.process", "diffusion"),
        "methods.rded: unknown key 'process'; available: ",
    ),
    "renamed value": (
        put("methods.d", {**D3HR, "noising": "diffusion"}),
        "methods.d.noising: must be one of ddim_inversion, forward, not 'diffusion'; "
        "renamed to 'forward'",
    ),
    "key that YAML reads as true": (
        put("methods.e", {**EDC, "flatness": {True: "logits"}}),
        "methods.e.flatness: key True must be text; renamed to 'kind'",
    ),
    "key that is a number": (
        put("denoisers", {"d": {"class_labels": {0: 0}}}),
        "denoisers.d.class_labels: key 0 must be text; put it in quotes",
    ),
    "no number": (
        put("teachers.t.learning_rate", float("nan")),
        "teachers.t.learning_rate: must be a finite number, not nan",
    ),
    "missing section": (
        drop("protocols"),
        "protocols: missing (training and evaluation protocols",
    ),
    "missing key": (
        drop("datasets.three.resolution"),
        "datasets.three.resolution: missing (side of the square images [px])",
    ),
    "missing key of a kind": (
        drop("methods.rded.teacher"),
        "methods.rded.teacher: missing (name of the teacher that scores patches)",
    ),
    "missing kind": (put("methods.random", {}), "methods.random.kind: missing (`cda`: "),
    "unknown kind": (
        put("methods.random.kind", "rdedd"),
        f"methods.random.kind: must be one of {', '.join(sorted(KINDS))}, not 'rdedd'",
    ),
    "unknown choice": (
        put("teachers.t.optimizer", "adam"),
        "teachers.t.optimizer: must be one of sgd, adamw, not 'adam'",
    ),
    "wrong type": (
        put("teachers.t.epochs", "ten"),
        "teachers.t.epochs: must be an integer, not 'ten' (passes over",
    ),
    "fraction": (put("teachers.t.epochs", 1.5), "teachers.t.epochs: must be an integer, not 1.5"),
    "truth": (put("teachers.t.epochs", True), "teachers.t.epochs: must be an integer, not True"),
    "section of nothing": (put("students", None), "students: must be a mapping, not None"),
    "number in place of a list": (
        put("experiments.x.ipc", 10),
        "experiments.x.ipc: must be a list, not 10",
    ),
    "neither alternative": (
        put("protocols.soft.learning_rate", "fast"),
        "protocols.soft.learning_rate: must be 'auto' or 'learned' or a number, not 'fast' (",
    ),
    "wrong number of an alternative": (
        put("protocols.soft.batch_size", 0),
        "protocols.soft.batch_size: must be at least 1, not 0 (images per step",
    ),
    "wrong item of an alternative": (
        put("datasets.three.classes", [0, 1]),
        "datasets.three.classes.0: must be text, not 0 (class ids",
    ),
    "too few items": (
        put("datasets.three.classes", ["0"]),
        "datasets.three.classes: must have at least 2 items, not ['0'] (class ids",
    ),
    "too many items": (
        put("methods.rded.crop", [0.1, 0.5, 1]),
        "methods.rded.crop: must have at most 2 items, not [0.1, 0.5, 1]",
    ),
    "empty section": (put("students", {}), "students: must have at least 1 key, not {}"),
    "too small": (
        put("experiments.x.ipc", [0]),
        "experiments.x.ipc.0: must be at least 1, not 0",
    ),
    "too large": (put("teachers.t.flip", 1.5), "teachers.t.flip: must be at most 1, not 1.5"),
    "not positive": (
        put("teachers.t.learning_rate", 0),
        "teachers.t.learning_rate: must be more than 0, not 0",
    ),
    "on the open end": (
        put("sources.digits.holdout", 1),
        "sources.digits.holdout: must be less than 1, not 1",
    ),
    "no match": (
        put("labels.soft.encoding", "top0"),
        "labels.soft.encoding: must match ^(float16|int[2-8]|top[1-9][0-9]*)$, not 'top0' (storage",
    ),
    "quality of zero": (
        put("methods.rded.encoding", "webp0"),
        "methods.rded.encoding: must match ^(png|webp([1-9][0-9]?|100)?|jpeg",
    ),
    "quality above 100": (
        put("methods.random.encoding", "jpeg101"),
        "methods.random.encoding: must match ",
    ),
    "absolute folder of a split": (
        put("sources.pets", {**FOLDER, "train": "/data"}),
        "sources.pets.train: must match ^[^/], not '/data'",
    ),
    "twice": (
        put("experiments.x.seeds", [1, 1]),
        "experiments.x.seeds: must have each value once, not [1, 1]",
    ),
    "name with a slash": (
        put("students.a/b", {"arch": "convnet1"}),
        "students: name 'a/b' must match ",
    ),
}


def load(path):
    return yaml.safe_load(path.read_text())


@pytest.fixture
def methods(tmp_path):
    """Folder of method schemas that a test may change."""
    return Path(shutil.copytree(schema.METHODS, tmp_path / "methods"))


def kinds(assembled):
    method = assembled["$defs"]["method"]
    named = set(method["properties"]["kind"]["enum"])
    assert named == {b["if"]["properties"]["kind"]["const"] for b in method["allOf"]}
    return named


def test_the_schema_has_all_kinds_of_methods():
    assert kinds(schema.schema()) == KINDS
    description = schema.definition("method")["properties"]["kind"]["description"]
    assert all(f"`{kind}`: " in description for kind in KINDS)


def test_a_schema_with_a_reference_and_keys_of_its_own_has_both():
    root = {
        "$defs": {
            "a": {"required": ["x"], "properties": {"x": {"type": "integer"}, "y": {"default": 1}}},
            "b": {"$ref": "#/$defs/a", "required": ["z"], "properties": {"y": {}, "z": {}}},
        }
    }
    merged = schema.resolve({"$ref": "#/$defs/b", "description": "b"}, root)
    assert merged == {
        "required": ["x", "z"],
        "properties": {"x": {"type": "integer"}, "y": {}, "z": {}},
        "description": "b",
    }


def test_a_new_file_adds_a_kind(methods, monkeypatch, tiny):
    (methods / "toy.yaml").write_text(
        "title: toy images\n"
        "required: [size]\n"
        "properties:\n"
        '  size: {type: integer, minimum: 1, description: "size of a toy [px]"}\n'
        "  options: {$ref: '#/$defs/toy_options', default: {}}\n"
        "$defs:\n"
        "  toy_options: {type: object, properties: {colour: {type: number, default: 1}}}\n"
    )
    assembled = schema.assemble(methods)
    assert kinds(assembled) == {*KINDS, "toy"}
    assert "`toy`: toy images" in str(assembled["$defs"]["method"]["properties"]["kind"])
    monkeypatch.setattr(schema, "schema", lambda: assembled)
    tiny["methods"]["t"] = {"kind": "toy", "size": 3}
    schema.check(tiny)
    assert schema.fill(tiny, assembled)["methods"]["t"] == {
        "kind": "toy",
        "fidelity": "code",
        "size": 3,
        "options": {"colour": 1.0},
    }
    del tiny["methods"]["t"]["size"]
    with pytest.raises(StillhouseError, match=r"^methods\.t\.size: missing \(size of a toy"):
        schema.check(tiny)


def test_two_files_cannot_define_the_same(methods):
    toy = "title: toy\nproperties: {}\n$defs: {crop: {type: number}}\n"
    (methods / "toy.yaml").write_text(toy)
    with pytest.raises(StillhouseError, match=r"toy\.yaml: \$defs: 'crop' conflicts"):
        schema.assemble(methods)


@pytest.mark.parametrize("path", [ROOT / "config.yaml", *PRESETS], ids=lambda path: path.stem)
def test_the_schema_accepts_the_default_and_the_presets(path):
    parts = includes.included([path])
    whole = includes.merged(load(path), list(parts.values()))
    schema.check(schema.read_text(whole, schema.schema()))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_begins_with_four_comment_lines(path):
    *head, after = path.read_text().splitlines()[:5]
    assert all(line.startswith("# ") for line in head) and not after
    assert head[1].startswith("# Hours: ") and head[2].startswith("# Data: ")
    command = rf"# Command: snakemake --cores \d (--until teacher )?--configfile (\S+/){path.name}"
    assert re.fullmatch(command, head[3])
    # Hours are measured, or estimated from costs.
    assert re.search(r"\d", head[1])


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_a_violation_is_one_line(tiny, change, message):
    change(tiny)
    with pytest.raises(StillhouseError) as caught:
        schema.check(tiny)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_long_value_is_shortened(tiny):
    tiny["datasets"]["three"]["classes"] = [f"class {i % 50}" for i in range(100)]
    with pytest.raises(StillhouseError, match="must have each value once, not ") as caught:
        schema.check(tiny)
    assert len(str(caught.value)) < 300


def test_text_becomes_a_number_where_the_schema_has_one(tiny):
    tiny["teachers"]["t"] |= {"learning_rate": "1e-3", "epochs": "2", "seed": "x"}
    tiny["protocols"]["soft"] |= {"batch_size": "auto", "learning_rate": "2e-3"}
    tiny["experiments"]["x"]["ipc"] = ["1", 2]
    tiny["datasets"]["three"]["classes"] = ["1", "2"]
    tiny["sources"]["cifar"] = {"kind": "torchvision", "download": "True"}
    read = schema.read_text(tiny, schema.schema())
    assert read["teachers"]["t"]["learning_rate"] == 1e-3
    assert read["teachers"]["t"]["epochs"] == 2 and read["teachers"]["t"]["seed"] == "x"
    assert read["protocols"]["soft"]["batch_size"] == "auto"
    assert read["protocols"]["soft"]["learning_rate"] == 2e-3
    assert read["experiments"]["x"]["ipc"] == [1, 2]
    assert read["datasets"]["three"]["classes"] == ["1", "2"]
    assert read["sources"]["cifar"]["download"] is True


def test_defaults_are_filled_by_kind(tiny):
    tiny["methods"]["e"] = {**EDC, "loss_weights": {"batchnorm": 1}}
    filled = schema.fill(tiny, schema.schema())
    random = {"kind": "random", "fidelity": "code", "encoding": "png"}
    assert filled["methods"]["random"] == random
    assert filled["methods"]["rded"]["crop"] == [0.08, 1.0]
    assert "encoding" not in filled["methods"]["rded"]
    edc = filled["methods"]["e"]
    # From a definition of this method, and from one shared by all methods.
    assert edc["flatness"] == {"weight": 0.25, "beta": 0.99, "temperature": 4.0}
    assert edc["encoding"] == "png"
    weights = {"batchnorm": 1.0, "cross_entropy": 1.0, "first_layer": 10.0}
    assert edc["loss_weights"] == weights
    assert all(isinstance(weight, float) for weight in edc["loss_weights"].values())
    assert filled["students"]["s"] == {"arch": "convnet1", "width": 4, "norm": "batch"}
    assert "width" not in filled["methods"]["random"]


UNQUOTED = [
    ("denoisers.d.pretrained.sha256", "0" * 64, "0"),
    ("denoisers.d.pretrained.sha256", "12" * 32, "12" * 32),
    ("denoisers.d.pretrained.folder", "2026-01-02", "datetime.date(2026, 1, 2)"),
    ("datasets.three.source", "007", "7"),
    ("datasets.three.classes.0", "0", "0"),
    ("datasets.three.classes.1", "no", "False"),
    ("datasets.three.classes.2", "~", "None"),
    ("sources.p.train", "12", "12"),
    ("sources.p.train.0", "1.5", "1.5"),
    ("sources.p.classes", "10", "10"),
    ("experiments.x.students.0", "12:30", "750"),
]


@pytest.mark.parametrize(("key", "written", "value"), UNQUOTED)
def test_texts_of_digits_need_quotes(key, written, value, tiny):
    tiny["denoisers"] = {
        "d": {
            **{"kind": "stable_diffusion", "resolution": 8},
            "pretrained": {"folder": "x", "sha256": "0" * 64},
        }
    }
    tiny["sources"]["p"] = {
        **{"kind": "parquet", "train": ["a"], "test": ["b"]},
        **{"classes": ["a", "b"], "smallest_class": 1},
    }
    for text, accepted in ((f'"{written}"', True), (written, False)):
        config = copy.deepcopy(tiny)
        *path, last = [int(part) if part.isdigit() else part for part in key.split(".")]
        place = config
        for part in path:
            place = place[part]
        place[last] = yaml.safe_load(text)
        if accepted:
            schema.check(config)
            continue
        with pytest.raises(StillhouseError) as caught:
            schema.check(config)
        message = str(caught.value)
        assert message.startswith(f"{key}: must be text") and f"not {value}" in message
        assert message.endswith("; put it in quotes")


def integers(rule, key=""):
    """Yield (path, rule) of every integer in a schema."""
    if isinstance(rule, dict):
        if rule.get("type") == "integer":
            yield key, rule
        for name, part in rule.items():
            yield from integers(part, f"{key}.{name}")
    elif isinstance(rule, list):
        for i, part in enumerate(rule):
            yield from integers(part, f"{key}.{i}")


def test_every_integer_has_bounds():
    found = dict(integers(schema.schema()))
    assert len(found) > 60
    assert [key for key, rule in found.items() if not {"minimum", "maximum"} <= rule.keys()] == []
