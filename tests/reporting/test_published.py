"""Published numbers and class lists: valid, and shown beside cells of the same lineage only."""

import collections
import copy
import csv
import functools
import importlib.util
import json
import statistics
from pathlib import Path

import pytest
from stillhouse.artifacts.addresses import canonical
from stillhouse.data.sources import catalogue
from stillhouse.errors import StillhouseError
from stillhouse.methods import registry
from stillhouse.networks import architectures
from stillhouse.reporting import costs, published

from docs import published_signatures
from tests.reporting.fakes import spec_of

PUBLISHED = Path(__file__).parents[2] / "workflow/published"
FILES = sorted(PUBLISHED.glob("*.csv"))
ROWS = published.read(FILES)
NUMBERS = published.numbers(FILES, PUBLISHED / published.SIGNATURES)
# Datasets of the field and their classes, to compare accuracies with chance.
CLASSES = {
    "cifar10": 10,
    "cifar100": 100,
    "imagenet-10": 10,
    "imagenet-100": 100,
    "imagenet-1k": 1000,
    **dict.fromkeys(("imagenette", "imagewoof", "imagefruit"), 10),
    **dict.fromkeys(("imageyellow", "imagemeow", "imagesquawk"), 10),
    "tiny-imagenet": 200,
}


cells_of = functools.cache(published_signatures.cells_of)


def cell_of(preset, **identity):
    """Return (identity, spec) of the first cell of a preset with these words; may be changed."""
    for cell, spec in cells_of(preset):
        if all(cell[name] == value for name, value in identity.items()):
            return cell, copy.deepcopy(spec)
    raise KeyError(identity)


def parts_of(spec):
    """Yield a spec and everything upstream."""
    yield spec
    for part in spec["upstream"].values():
        for one in part if isinstance(part, list) else [part]:
            yield from parts_of(one)


def rows_of(path):
    """Return the rows of a CSV file as dicts."""
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_rows_are_valid(path):
    rows = rows_of(path)
    assert rows
    for row in rows:
        assert tuple(row) == published.COLUMNS
        assert all(cell == cell.strip() for cell in row.values()), row
        assert all(row[name] for name in ("paper", "dataset", "method", "value", "unit")), row
        assert row["labels"] in ("soft", "hard", ""), row
        assert not row["ipc"] or 1 <= int(row["ipc"]) <= 1000, row
        assert float(row["value"]) > 0 and (not row["std"] or float(row["std"]) >= 0), row
        for arch in [*row["teacher"].split(), row["student"]]:
            architectures.check_name("student", arch)
        if row["unit"] != "%":
            assert row["unit"] in ("h", "s", "ms") and not row["student"] * (row["unit"] != "h"), (
                row
            )
            continue
        # At chance are networks of cross-architecture tables and averages that start late.
        of_chance = row["table"] == "A5" or "EMA: 0.999" in row["setting"]
        chance = 10 if row["dataset"] == "mean of the subsets" else 100 / CLASSES[row["dataset"]]
        assert chance * (0.9 if of_chance else 1) <= float(row["value"]) < 100, row
        assert not row["std"] or float(row["std"]) <= 5, row
        if row["preset"]:
            # Words of a config: no cell would have others.
            assert registry.method(row["method"]).kind == row["method"], row
            assert row["labels"] and row["ipc"], row
            assert all(len(cell.split("/")) == 4 for cell in row["preset"].split()), row


def test_every_number_has_a_name_of_its_own():
    names = collections.Counter(row.name for row in ROWS)
    assert [name for name, n in names.items() if n > 1] == []


def test_a_number_that_another_table_contradicts_has_a_note():
    rows = [row for path in FILES for row in rows_of(path) if row["unit"] == "%"]
    same = collections.defaultdict(list)
    for row in rows:
        same[
            tuple(row[name] for name in (*published.KEY, "kilobytes_per_class", "setting"))
        ].append(row)
    for row in [row for group in same.values() for row in group]:
        for other in same[
            tuple(row[n] for n in (*published.KEY, "kilobytes_per_class", "setting"))
        ]:
            teachers = {row["teacher"], other["teacher"]} - {""}
            if len(teachers) < 2 and other["value"] != row["value"]:
                assert f"{other['value']}" in row["note"], row
                assert f"{other['paper']} Table {other['table']}" in row["note"], row


def ruo_rows(**chosen):
    """Return the accuracies of the rate-utility paper with these values."""
    rows = [row for row in rows_of(PUBLISHED / "ruo.csv") if row["unit"] == "%"]
    return [row for row in rows if all(row[name] == value for name, value in chosen.items())]


@pytest.mark.parametrize("utility", ["gm", "dm"])
def test_averages_of_the_rate_utility_paper_are_those_of_its_rows(utility):
    table = ruo_rows(table="A6", setting=f"utility: {utility}")
    table += ruo_rows(table="A6", method=utility)
    means = {row["method"]: row for row in table if row["dataset"] == "mean of the subsets"}
    assert {"ruo", "ddif", "glad", utility} <= means.keys()
    for method, printed in means.items():
        own = [row for row in table if row["method"] == method and row is not printed]
        assert len(own) == (6 if method in ("ruo", utility) else 5)
        error = 0.11 if printed["note"].startswith("misprint") else 0.06
        mean = statistics.mean(float(row["value"]) for row in own)
        assert mean == pytest.approx(float(printed["value"]), abs=error), (utility, method)


def test_budgets_of_the_rate_utility_paper_are_images_of_float32():
    rows = [row for name in ("tm", "gm", "dm") for row in ruo_rows(method=name)]
    rows = [row for row in rows if row["dataset"] in CLASSES]
    assert {float(row["kilobytes_per_class"]) for row in rows} >= {12, 120, 600, 192}
    for row in rows:
        bits = costs.raw_bits_per_class(int(row["resolution"]), int(row["ipc"]))
        assert float(row["kilobytes_per_class"]) * 8 * 1024 == bits, row


HEADER = list(published.COLUMNS)


def csv_of(*rows):
    """Return a CSV file as text, of rows that agree in all that is not given."""
    common = {"paper": "P", "table": "1", "dataset": "d", "method": "ruo", "ipc": "96"}
    common |= {"student": "convnet5", "labels": "hard", "unit": "%"}
    lines = [[{**common, **row}.get(name, "") for name in HEADER] for row in rows]
    return "".join(",".join(line) + "\n" for line in [HEADER, *lines])


def test_settings_distinguish_rows_of_one_key(tmp_path):
    path, signatures = tmp_path / "x.csv", tmp_path / published.SIGNATURES
    rows = [{"value": "40", "setting": "a"}, {"value": "50", "setting": "b"}]
    path.write_text(csv_of(*({**row, "preset": f"p/e/{row['setting']}/h"} for row in rows)))
    names = [row.name for row in published.read([path])]
    assert names == [f"P Table 1: d, ruo, 96, convnet5, hard, {setting}, %" for setting in "ab"]
    recorded = {name: {f"p/e/{name[-4]}/h": name[-4]} for name in names}
    signatures.write_text(json.dumps(recorded))
    found = published.numbers([path], signatures)
    assert found == {
        ("d", "ruo", "96", "convnet5", "hard"): {
            "a": [((40.0, None), ("e", "a", "h"))],
            "b": [((50.0, None), ("e", "b", "h"))],
        }
    }


def test_a_cell_has_the_number_of_the_table_that_its_experiment_claims():
    middle, other = (
        cell_of("d3hr-ablations", experiment=name, method="d3hr", ipc=10)
        for name in ("d3hr-tableA5", "d3hr-table3")
    )
    assert published.signature(middle[1], "best") == published.signature(other[1], "best")
    assert published.beside(NUMBERS, *middle) == (44.1, 0.3)
    assert published.beside(NUMBERS, *other) == (44.3, 0.3)
    # An experiment that claims no table has the number that is printed first.
    assert published.beside(NUMBERS, {**middle[0], "experiment": "own"}, middle[1]) == (44.3, 0.3)


def test_misprints_and_numbers_of_other_settings_are_not_shown():
    rows = [row for path in FILES for row in rows_of(path)]
    misprints = [row for row in rows if row["note"].startswith("misprint: ")]
    assert len(misprints) > 20
    (repeated,) = [
        row for row in misprints if row["note"].startswith("misprint: CIFAR-10's number")
    ]
    assert not repeated["preset"]
    # D3HR's Table A6 trains for 1000 epochs: its numbers are not beside cells of Table 1.
    table1 = {"experiment": "d3hr-table1-cifar10", "method": "cifar10", "ipc": 10}
    assert published.beside(NUMBERS, *cell_of("d3hr-low-resolution", **table1)) == (41.3, 0.1)


def test_recorded_signatures_are_those_of_the_presets():
    recorded = json.loads((PUBLISHED / published.SIGNATURES).read_text())
    assert recorded == published.signatures(ROWS, cells_of), "run make format"


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        (
            "d3hr-imagenet/d3hr-table5",
            {
                ("d3hr", 10, "resnet18_instance"): 39.6,
                ("d3hr", 50, "resnet18_instance"): 57.6,
                ("d3hr", 100, "resnet18_instance"): 66.8,
                ("d3hr", 10, "resnetap10"): 40.7,
                ("d3hr", 50, "resnetap10"): 59.3,
                ("d3hr", 100, "resnetap10"): 64.7,
            },
        ),
        (
            "ddps-ablation/ddps-table5",
            {
                ("no-clusters", 10, "torchvision/resnet18"): 41.8,
                ("clip", 10, "torchvision/resnet18"): 39.8,
                ("ddps", 10, "torchvision/resnet18"): 44.3,
            },
        ),
        (
            "rded-cifar10-convnet3/rded-cifar10-convnet3",
            {("rded", 1, "convnet3"): 23.5, ("rded", 10, "convnet3"): 50.2},
        ),
        (
            "gvbsm-cifar10/gvbsm-cifar10",
            {
                ("gvbsm", 10, "resnet18_modified"): 53.5,
                ("gvbsm", 50, "resnet18_modified"): 59.2,
            },
        ),
        (
            "edc-cifar10-ablation/edc-table19",
            {
                ("edc", 10, "resnet18_modified"): 77.7,
                ("edc", 10, "resnet101_modified"): 68.2,
                ("edc", 10, "mobilenetv2_small"): 38.2,
            },
        ),
        ("diffusion-cifar10-convnet3/diffusion-cifar10-convnet3", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_experiment_has_its_numbers_and_no_others(preset, expected):
    found = {}
    preset, experiment = preset.split("/")
    for identity, spec in cells_of(preset):
        accuracy, _ = published.beside(NUMBERS, identity, spec)
        if accuracy is not None and identity["experiment"] == experiment:
            found[tuple(identity[name] for name in ("method", "ipc", "arch"))] = accuracy
    assert found == expected


D3HR = ("d3hr-low-resolution", "cifar10", 41.3)
DDPS = ("ddps-low-resolution", "ddps", 36.4)
EDC = ("edc-cifar10", "edc", 79.1)
RDED = ("rded-low-resolution", "rded", 37.1)


def resnet18(preset, method):
    return cell_of(preset, method=method, dataset="cifar10", ipc=10, arch="resnet18_modified")


@pytest.mark.parametrize(
    ("cell", "stage", "settings"),
    [
        (D3HR, "decode", {"guidance": 1.5}),
        (D3HR, "samples", {"candidates": 7}),
        (D3HR, "index", {"holdout": 0.1}),
        (D3HR, "denoiser", {"weights": None, "train": {"epochs": 1}}),
        (DDPS, "clusters", {"clusters": 10}),
        (DDPS, "class_scores", {"images_per_class": 100}),
        (DDPS, "distilled", {"ranking": "score"}),
        (RDED, "patch_scores", {"crops_per_image": 1}),
        (RDED, "teacher", {"arch": "convnet3"}),
        (RDED, "students", {"network": {"arch": "resnet18_modified", "width": 32}}),
        (RDED, "students", {"training": {"epochs": 10}}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_changed_setting_hides_the_number(cell, stage, settings):
    preset, method, accuracy = cell
    identity, spec = resnet18(preset, method)
    assert published.beside(NUMBERS, identity, spec)[0] == accuracy
    for part in parts_of(spec):
        if part["stage"] == stage:
            changed = {**part["settings"], **settings}
            part["settings"] = {k: v for k, v in changed.items() if v is not None}
    assert published.beside(NUMBERS, identity, spec) == (None, None)


@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_a_changed_loss_hides_the_number(alpha):
    preset, method, accuracy = EDC
    identity, spec = cell_of(preset, method=method, ipc=10, arch="resnet18_modified")
    assert published.beside(NUMBERS, identity, spec)[0] == accuracy
    spec["upstream"]["distilled"]["upstream"]["synthesis"]["settings"]["alpha"] = alpha
    assert published.beside(NUMBERS, identity, spec) == (None, None)


@pytest.mark.parametrize("cell", [D3HR, DDPS, RDED], ids=lambda cell: cell[0])
def test_seeds_origins_and_training_of_teachers_do_not_hide_the_number(cell):
    preset, method, accuracy = cell
    identity, spec = resnet18(preset, method)
    for part in parts_of(spec):
        part |= {"digest": "0", "address": "results/elsewhere", "version": 99}
        part["keys"] = {k: 7 if "seed" in k else v for k, v in part["keys"].items()}
        settings = part["settings"]
        settings |= {name: 7 for name in settings if name == "seed"}
        if part["stage"] == "index":
            settings |= {"kind": "parquet", "name": "other", "revision": 2, "classes": ["a"]}
        if part["stage"] == "teacher":
            settings |= {"epochs": 7, "optimizer": "adamw", "precision": "bfloat16"}
        if part["stage"] == "denoiser":
            settings["weights"] = {"hub": "other/weights", "revision": "0"}
        if "classes" in settings:
            settings["classes"] = settings["classes"][::-1]
    assert published.beside(NUMBERS, identity, spec)[0] == accuracy


@pytest.mark.parametrize("cell", [D3HR, DDPS, RDED], ids=lambda cell: cell[0])
def test_another_reported_accuracy_hides_the_number(cell):
    preset, method, accuracy = cell
    identity, spec = resnet18(preset, method)
    reports = {**identity, "report": "best"}, {**identity, "report": "last"}
    assert identity["report"] == "best"
    shown = [published.beside(NUMBERS, one, spec)[0] for one in reports]
    assert shown == [accuracy, None]


def test_a_row_without_a_signature_is_one_line_with_its_remedy(tmp_path):
    signatures = tmp_path / published.SIGNATURES
    signatures.write_text("{}")
    with pytest.raises(StillhouseError) as caught:
        published.numbers(FILES, signatures)
    first = next(row for row in ROWS if row.cells)
    assert str(caught.value) == f"{signatures}: {first.name}: missing; run make format"


def student(teachers, online, **settings):
    """Return the spec of a student with soft labels of teachers, stored or online."""
    distilled = spec_of("distilled", "d", {"classes": ["0", "1"], "kind": "random"}, ipc=1, seed=0)
    teachers = [spec_of("teacher", arch, {"arch": arch}) for arch in teachers]
    training = {"epochs": 300, "loss": "kl"}
    table = {"views": {"flip": 0.5}, "seed": 0, "batch_size": 10}
    if online:
        labels = {"kind": "online", **table}
        upstream = {"teachers": teachers}
    else:
        labels = {"kind": "soft", "batch_size": 10}
        table |= {"encoding": "float16", "epochs_stored": 300, **settings}
        made_from = {"distilled": distilled, "teachers": teachers}
        upstream = {"labels": spec_of("labels", "l", table, made_from)}
    values = {"labels": labels, "network": {"arch": "convnet3"}, "training": training}
    return spec_of("students", "s", values, {"distilled": distilled, **upstream}, seed=0)


def test_stored_and_online_labels_are_the_same():
    stored = published.comparable(student("ab", online=False), "last")
    assert stored == published.comparable(student("ab", online=True), "last")
    assert stored == canonical(json.loads(stored))
    seeded = student("ab", online=False, views_stored=False)
    assert stored == published.comparable(seeded, "last")
    for settings in ({"epochs_stored": 10}, {"encoding": "top1"}, {"views": {"flip": 0.0}}):
        assert stored != published.comparable(student("ab", online=False, **settings), "last")


def test_the_order_of_teachers_does_not_matter_but_their_number():
    signature = published.signature(student("ab", online=True), "best")
    assert signature == published.signature(student("ba", online=True), "best")
    assert signature != published.signature(student("aab", online=True), "best")
    assert len(signature) == published.DIGITS


LISTS = sorted((PUBLISHED / "classes").iterdir())
# Class indices as the repositories give them; the files have WordNet ids.
INDICES = {
    "imagenette": [0, 217, 482, 491, 497, 566, 569, 571, 574, 701],
    "imagewoof": [193, 182, 258, 162, 155, 167, 159, 273, 207, 229],
    "imagemeow": [281, 282, 283, 284, 285, 291, 292, 290, 289, 287],
    "imagesquawk": [84, 130, 88, 144, 145, 22, 96, 9, 100, 89],
    "imagefruit": [953, 954, 949, 950, 951, 957, 952, 945, 943, 948],
    "imageyellow": [309, 986, 954, 951, 987, 779, 599, 291, 72, 11],
}
SIZES = {"imagenet1k": 1000, "tinyimagenet": 200, "imagenet100": 100}


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_a_class_list_has_an_origin_and_classes_of_imagenet(path):
    assert path.suffix == ".txt"
    assert any(line.startswith("# Origin: ") for line in path.read_text().splitlines())
    classes = catalogue.published_classes(path.stem)
    imagenet = catalogue.published_classes("imagenet1k")
    assert len(classes) == len(set(classes)) == SIZES.get(path.stem, 10)
    assert set(classes) <= set(imagenet)
    if path.stem in INDICES:
        assert list(classes) == [imagenet[i] for i in INDICES[path.stem]]


def test_imagenets_classes_are_those_of_timm():
    folder = importlib.util.find_spec("timm").submodule_search_locations[0]
    ids = (Path(folder) / "data/_info/imagenet_synsets.txt").read_text().split()
    assert list(catalogue.published_classes("imagenet1k")) == ids
