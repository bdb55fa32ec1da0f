"""A new method is a folder, a schema file and one line in the registry: a toy method."""

import hashlib
import shutil

import pytest
from snakemake_runs import ROOT, Folder

pytestmark = pytest.mark.workflow

METHOD = '''\
"""Toy: the mean image of a class, and copies of it that are brighter."""

from stillhouse.artifacts.stages import Stage
from stillhouse.methods.base import Method

MEAN_IMAGES = Stage(
    "mean_images",
    version=1,
    files=("mean.safetensors",),
    function="stillhouse.methods.toy.stage:mean_images",
    description="mean image of a class",
    member="class_id",
    on_device=False,
)


class Toy(Method):
    """The mean image of a class."""

    kind = "toy"
    stages = (MEAN_IMAGES,)
    images = "stillhouse.methods.toy.stage:images_of_class"
    unlimited = True

    def plan(self, task):
        """Return (upstream, settings) of the distilled set; add the mean images."""
        settings = {"resolution": task.resolution}
        means = task.per_class(MEAN_IMAGES, (), settings, {"images": task.images})
        return {"means": means}, task.only("brightness")
'''
STAGE = '''\
"""Mean images of classes, and the toy's distilled images."""

import torch

from stillhouse.artifacts import store
from stillhouse.data.splits import load_split


def mean_images(inputs, spec, context):
    """Stage: the mean training image of each class, (3, side, side) float32 in [0, 255]."""

    def make(class_id, context):
        side = spec["settings"]["resolution"]
        images, _ = load_split(inputs["images"], [class_id], side, "train")
        return {"mean.safetensors": {"mean": images.float().mean(0)}}

    return make


def images_of_class(inputs, spec, class_id, context):
    """Return brighter and brighter mean images of one class, [(pixels, origin)]."""
    mean = store.read_tensors(inputs["means"][class_id])["mean"]
    steps = range(spec["keys"]["ipc"])
    brighter = [mean + i * spec["settings"]["brightness"] for i in steps]
    return [(image.clamp(0, 255).to(torch.uint8).numpy(), []) for image in brighter]
'''
SCHEMA = """\
title: mean images of a class
properties:
  brightness: {type: number, default: 10.0, description: "added per image [grey levels]"}
"""
COPIED = ("Snakefile", "config.yaml", "workflow", "envs", "profiles")


def hashes(root):
    """Return {path: SHA-256} of the files below a folder."""
    files = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


class Copy(Folder):
    """A working directory that runs a copy of the workflow, and of the package."""

    def environment(self):
        """Return the environment with the copy's package first."""
        package = str(self.snakefile.parent / "workflow")
        return {**super().environment(), "PYTHONPATH": package}


@pytest.fixture
def copy(tmp_path):
    """Return a copy of the workflow and its package."""
    root = tmp_path / "copy"
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            # With compiled modules, except those that another process is writing.
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("*.pyc.*"))
        else:
            root.mkdir(exist_ok=True)
            shutil.copy(source, root / name)
    return root


def add_toy(root):
    """Add the toy method to a copy; return the files that it adds and the one that it changes."""
    package = root / "workflow/stillhouse/methods"
    files = {
        "workflow/stillhouse/methods/toy/__init__.py": '"""Toy method."""\n',
        "workflow/stillhouse/methods/toy/method.py": METHOD,
        "workflow/stillhouse/methods/toy/stage.py": STAGE,
        "workflow/schemas/methods/toy.yaml": SCHEMA,
    }
    (package / "toy").mkdir()
    for name, text in files.items():
        (root / name).write_text(text)
    registry = package / "registry.py"
    lines = registry.read_text().splitlines(keepends=True)
    lines.insert(lines.index("        EDC(),\n") + 1, "        Toy(),\n")
    imports = [i for i, line in enumerate(lines) if line.startswith("from stillhouse.methods.")]
    lines.insert(imports[-1] + 1, "from stillhouse.methods.toy.method import Toy\n")
    registry.write_text("".join(lines))
    return set(files), "workflow/stillhouse/methods/registry.py"


def test_a_method_is_added_by_its_files_and_one_line_and_runs_to_a_table(copy, tmp_path, config):
    before = hashes(copy)
    added, changed = add_toy(copy)
    after = hashes(copy)
    assert after.keys() - before.keys() == added
    assert {path for path in before if after[path] != before[path]} == {changed}

    folder = Copy(tmp_path / "run", copy / "Snakefile")
    config["methods"] = {"toy": {"kind": "toy", "brightness": 20}}
    config["teachers"], config["labels"], config["denoisers"] = {}, {}, {}
    config["protocols"] = {"hard": {"labels": "hard", "epochs": 2}}
    config["experiments"]["tiny"] |= {
        **{"methods": ["toy"], "ipc": [2], "protocols": ["hard"], "seeds": [0]},
    }
    folder.configure(config)
    done = folder.make("results/tables/tiny.csv")
    assert "\nmean_images  " in done.stderr
    assert "] mean_images digits" in done.stderr
    (row,) = folder.rows()
    assert row["method"] == "toy"
    assert float(row["accuracy"]) > 0
    assert float(row["seconds_distill"]) > 0
    assert len(folder.paths("mean_images/digits-*/*/mean.safetensors")) == 3
    assert folder.jobs("results/tables/tiny.csv") == {}
