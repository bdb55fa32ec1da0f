"""Processor time of plans: ``python tests/bench/plans.py [preset.yaml …]`` prints a Markdown table.

Without arguments: 10, 100 and 1,000 classes, and 1, 54 and 270 cells (students of one set under one
protocol). Nothing is computed; the folders have no images.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

ROOT = Path(__file__).parents[2]
METHODS = {
    "random": {"kind": "random"},
    "rded": {"kind": "rded", "teacher": "t"},
    "d3hr": {"kind": "d3hr", "denoiser": "dit"},
    "d4m": {"kind": "d4m", "denoiser": "dit"},
    "herding": {"kind": "herding", "feature_space": "t"},
}
# Cells → methods, IPCs, seeds of the sets, protocols, students.
SHAPES = {
    1: (["d3hr"], [10], [0], ["hard"], ["a"]),
    54: (["random", "d3hr", "rded"], [1, 10, 50], [0], ["soft", "hard"], ["a", "b", "c"]),
    270: (list(METHODS), [1, 10, 50], [0, 1, 2], ["soft", "hard"], ["a", "b", "c"]),
}


def config(n_classes, n_cells):
    """Return a config with these numbers of classes and cells."""
    methods, ipc, distill_seeds, protocols, students = SHAPES[n_cells]
    own = {"root": "data/imagenet", "classes": imagenet_classes()[:n_classes]}
    source = {"kind": "image_folder", **own, "smallest_class": 732}
    return {
        "sources": {"s": source},
        "datasets": {"d": {"source": "s", "resolution": 224}},
        "teachers": {"t": {"arch": "convnet3"}},
        "denoisers": {"dit": {"kind": "dit", "resolution": 256, "train": {}}},
        "methods": METHODS,
        "labels": {"soft": {"kind": "soft", "teachers": ["t"]}},
        "protocols": {"soft": {"labels": "soft"}, "hard": {"labels": "hard"}},
        "students": {name: {"arch": f"convnet{3 + i}"} for i, name in enumerate("abc")},
        "experiments": {
            "x": {
                "dataset": "d",
                "methods": methods,
                "ipc": ipc,
                "distill_seeds": distill_seeds,
                "protocols": protocols,
                "students": students,
                "seeds": [0, 1, 2],
            }
        },
    }


def imagenet_classes():
    """Return the 1,000 class ids of ImageNet-1K."""
    lines = (ROOT / "workflow/published/classes/imagenet1k.txt").read_text().split("\n")
    return [line for line in lines if line and not line.startswith("#")]


def make_folders(folder):
    """Make the user's folders of all presets, of the right shape and without images."""
    classes = imagenet_classes()
    folders = [f"data/imagenet/{split}/{one}" for split in ("train", "val") for one in classes]
    folders += [f"data/tiny-imagenet-200/train/{one}/images" for one in classes[:200]]
    folders += ["data/tiny-imagenet-200/val/images", "data/cifar10"]
    folders += ["data/cifar-10-batches-py", "data/cifar-100-python"]
    for network in ("", "-cifar10", "-cifar100", "-tiny-imagenet"):
        folders += [f"models/DiT-XL-2-256{network}/{part}" for part in ("transformer", "vae")]
    for name in folders:
        Path(folder, name).mkdir(parents=True, exist_ok=True)
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.schema({"img": image, "label": pa.int64()}).empty_table()
    for split in ("train", "test"):
        pq.write_table(table, Path(folder, f"data/cifar10/{split}.parquet"))


def plan(path, folder):
    """Return (jobs, lines of job stats, seconds of the processor) of a dry run."""
    before = os.times()
    command = [Path(sys.executable).with_name("snakemake"), "-s", ROOT / "Snakefile", "-n"]
    command += ["-d", folder, "--cores", "2", "--configfile", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = os.times()
    seconds = sum(after[2:4]) - sum(before[2:4])
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    stats = re.search(r"^job +count\n-+ +-+\n(.*?)^total +(\d+)$", done.stdout, re.M | re.S)
    return int(stats[2]), stats[1].count("\n") + 1, seconds


def main(presets):
    """Plan presets, or configs of several sizes, and print the times."""
    with tempfile.TemporaryDirectory() as folder:
        make_folders(folder)
        print("| plan | jobs | lines of job stats | processor [s] |\n| --- | --- | --- | --- |")
        for preset in presets:
            print("| {} | {} | {} | {:.1f} |".format(Path(preset).stem, *plan(preset, folder)))
        sizes = [] if presets else [(n, c) for n in (10, 100, 1000) for c in SHAPES]
        for n_classes, n_cells in sizes:
            path = Path(folder, "config.yaml")
            path.write_text(yaml.safe_dump(config(n_classes, n_cells)))
            name = f"{n_classes} classes, {n_cells} cells"
            print("| {} | {} | {} | {:.1f} |".format(name, *plan(path, folder)))


if __name__ == "__main__":
    main([str(Path(argument).absolute()) for argument in sys.argv[1:]])
