"""A run of a thousand classes: ``python tests/bench/thousand_classes.py [classes]`` prints tables.

Snakemake computes a source of ImageNet-1K's number of classes, with tiny images, two jobs at a
time: RDED with soft labels of five logits, and EDC with the feature statistics of all classes.
Seconds, memory and files per stage, from Snakemake's benchmark files and the results.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from snakemake_runs import Folder  # noqa: E402

TRAIN, TEST, SIDE = 20, 2, 16
NETWORK = {"arch": "convnet1", "width": 16, "norm": "batch"}
HEADER = """\
| stage | jobs | wall [s] | processor [s] | peak [MB] | files | kB |
| --- | --- | --- | --- | --- | --- | --- |"""


def make_source(folder, classes):
    """Write a folder of PNG files per class and split: noise around a colour of the class."""
    rng = np.random.default_rng(0)
    for class_id in classes:
        colour = rng.integers(32, 224, 3)
        for split, count in (("train", TRAIN), ("val", TEST)):
            place = folder / split / class_id
            place.mkdir(parents=True)
            noise = rng.integers(-32, 32, (count, SIDE, SIDE, 3))
            for i, image in enumerate((colour + noise).astype(np.uint8)):
                Image.fromarray(image).save(place / f"{i}.png")


def config(root, classes):
    """Return the config of the run."""
    source = {"kind": "image_folder", "root": str(root), "classes": classes}
    return {
        "compute": {"device": "cpu"},
        "sources": {"s": {**source, "smallest_class": TRAIN, "classes_per_block": 100}},
        "datasets": {"d": {"source": "s", "resolution": SIDE}},
        "teachers": {"t": {**NETWORK, "epochs": 3, "batch_size": 100, "min_accuracy": 0}},
        "methods": {
            "rded": {"kind": "rded", "teacher": "t", "crops_per_image": 2},
            "edc": {"kind": "edc", "observers": ["t"], "initial": "random", "iterations": 10},
            "random": {"kind": "random"},
        },
        "labels": {
            "soft": {"kind": "soft", "teachers": ["t"], "epochs_stored": 5, "encoding": "top5"}
        },
        "protocols": {"soft": {"labels": "soft", "epochs": 5}},
        "students": {"n": NETWORK},
        "experiments": {
            "x": {
                "dataset": "d",
                "methods": ["rded", "edc"],
                "ipc": [1],
                "students": ["n"],
                "protocols": ["soft"],
                "seeds": [0],
            }
        },
    }


def measured(results, stage):
    """Return a row's numbers of a stage: jobs, s, processor s, peak MB, files, bytes."""
    paths = sorted((results / "benchmarks" / stage).rglob("*.jsonl"))
    jobs = [json.loads(path.read_text().splitlines()[-1]) for path in paths]
    files = [path for path in (results / stage).rglob("*") if path.is_file()]
    return (
        len(jobs),
        sum(job["s"] for job in jobs),
        sum(job["cpu_time"] for job in jobs),
        max(job["max_rss"] for job in jobs),
        *size(files),
    )


def size(files):
    """Return the number of files and their bytes."""
    return len(files), sum(path.stat().st_size for path in files)


def main(n_classes):
    """Make the source, run everything, and print the tables."""
    with tempfile.TemporaryDirectory() as name:
        folder, classes = Folder(Path(name, "run")), [f"n{i:08d}" for i in range(n_classes)]
        make_source(Path(name, "images"), classes)
        folder.configure(config(Path(name, "images"), classes))
        started = time.perf_counter()
        folder.make()
        wall = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        results = folder / "results"
        print(HEADER)
        for place in sorted((results / "benchmarks").iterdir()):
            numbers = [f"{number:,.0f}" for number in measured(results, place.name)[:-1]]
            kilobytes = measured(results, place.name)[-1] / 1e3
            print(f"| `{place.name}` | {' | '.join(numbers)} | {kilobytes:,.0f} |")
        n_files, n_bytes = size([path for path in results.rglob("*") if path.is_file()])
        processor = used.ru_utime + used.ru_stime
        print(f"| all | | {wall:,.0f} | {processor:,.0f} | | {n_files:,} | {n_bytes / 1e3:,.0f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 1000)
