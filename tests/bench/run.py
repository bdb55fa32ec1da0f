"""`make bench`: speed as ratios to a bound measured in the same run. Prints one Markdown table.

Each pair is timed in turn, A B A B ..., after a warm-up, and the median of the pairwise ratios is
printed with the smallest and largest. ``--once`` times each pair once, without a warm-up, and
leaves out the runs of Snakemake.
"""

import datetime
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import class_scoring  # noqa: E402
import codec  # noqa: E402
import denoising  # noqa: E402
import groups  # noqa: E402
import synthesising  # noqa: E402
import utilities  # noqa: E402
from stillhouse import load_labels, render  # noqa: E402
from stillhouse.artifacts import store  # noqa: E402
from stillhouse.artifacts.context import Context, device_name  # noqa: E402
from stillhouse.artifacts.formats import save_table  # noqa: E402
from stillhouse.artifacts.rng import generator  # noqa: E402
from stillhouse.augmentation.views import draw  # noqa: E402
from stillhouse.data.codecs import encode  # noqa: E402
from stillhouse.data.crops import cut_many  # noqa: E402
from stillhouse.data.transforms import normalise  # noqa: E402
from stillhouse.evaluation import label_sources, label_tables, students  # noqa: E402
from stillhouse.methods.rded.patch_scores import score_class  # noqa: E402
from stillhouse.methods.registry import stages  # noqa: E402
from stillhouse.networks import registry  # noqa: E402
from stillhouse.training import loop as training  # noqa: E402
from stillhouse.training.optimizers import Optimizer  # noqa: E402
from timing import ONCE, clock, line, paired  # noqa: E402

THREADS = len(os.sched_getaffinity(0))
NETWORK = {"arch": "convnet3", "width": 128, "norm": "batch"}
RECIPE = {
    "epochs": 1,
    "optimizer": "adamw",
    "learning_rate": 0.001,
    "weight_decay": 0.01,
    "schedule": "constant",
    "precision": "float32",
}
VIEWS = {
    "crop": [0.5, 1.0],
    "flip": 0.5,
    "patches_per_side": 1,
    "mix": "cutmix",
    "mix_alpha": 1.0,
    "mix_per": "batch",
}


def student_step():
    """One epoch of 20 steps of 50 views against the same steps on ready inputs."""
    pixels = generator(0, "bench").integers(0, 256, (1000, 3, 32, 32), dtype=np.uint8)
    images, hard = torch.from_numpy(pixels), torch.arange(1000) % 10
    settings = {"views": VIEWS, "batch_size": 50, "kind": "hard"}
    labels = label_sources.HardLabels(settings, images, hard, 10)
    net = registry.build(NETWORK, 10, 32, 0, "student")
    optimizer = Optimizer(net, RECIPE)
    plain = torch.optim.AdamW(net.parameters(), RECIPE["learning_rate"])
    inputs = normalise(images[:50])
    targets = torch.nn.functional.one_hot(hard[:50], 10).float()
    bounds = training.step_bounds(net, 1000, 50, 32)

    def ours():
        steps = students.batches(labels, students.make_loss({"loss": "ce"}), 0, 0, bounds)
        training.one_epoch(net, optimizer, RECIPE, 0, *steps)

    def bare():
        for _ in range(20):
            loss = cross_entropy(net(inputs), targets)
            plain.zero_grad(set_to_none=True)
            loss.backward()
            plain.step()

    return paired(ours, bare, 7)


def plain_student(folder):
    """One epoch of 10 steps of 50 in plain PyTorch from a label table against the workflow's."""
    rng = generator(0, "bench")
    images = torch.from_numpy(rng.integers(0, 256, (500, 3, 32, 32), dtype=np.uint8))
    views, logits = draw(VIEWS, 0, 0, 500, 32, 50), rng.normal(0, 4, (500, 10)).astype(np.float32)
    table = label_tables.to_table(0, views, logits, "float16", 32)
    numbers = {"n_images": "500", "n_classes": "10", "resolution": "32", "batch_size": "50"}
    schema = table.schema.with_metadata({"encoding": "float16", "mix": "cutmix", **numbers})
    save_table(folder / "labels.parquet", schema, [table])
    labels = load_labels(folder / "labels.parquet")
    stored = label_sources.StoredLabels({}, images, torch.arange(500) % 10, labels)
    net = registry.build(NETWORK, 10, 32, 0, "student")
    optimizer, bounds = Optimizer(net, RECIPE), training.step_bounds(net, 500, 50, 32)
    loss = students.make_loss({"loss": "kl", "temperature": 20})
    plain = torch.optim.AdamW(net.parameters(), RECIPE["learning_rate"])

    def ours():
        views, logits = labels.epoch(0)
        for start in range(0, 500, 50):
            outputs = log_softmax(net(render(images, views, start, start + 50)) / 20, 1)
            targets = softmax(logits[start : start + 50] / 20, 1)
            plain.zero_grad()
            kl_div(outputs, targets, reduction="batchmean").backward()
            plain.step()

    def workflow():
        training.one_epoch(net, optimizer, RECIPE, 0, *students.batches(stored, loss, 0, 0, bounds))

    return paired(ours, workflow, 7)


def patch_scoring():
    """Scores of 5 crops of 300 encoded images against crop, resize and forward of the same."""
    pixels = generator(0, "bench").integers(0, 256, (300, 3, 32, 32), dtype=np.uint8)
    rows = [(f"{i}", encode(image, "jpeg")) for i, image in enumerate(pixels)]
    net = registry.build(NETWORK, 10, 32, 0, "teacher").eval().requires_grad_(False)
    settings = {"crops_per_image": 5, "patches_per_side": 1, "crop": [0.08, 1.0], "scoring": "pad"}
    boxes = score_class(rows, net, 0, 32, settings, (0, "a"), 250)
    boxes = np.stack([boxes[k].to_numpy() for k in ("top", "left", "height", "width")], axis=1)
    boxes = boxes.reshape(6, 50, 5, 4)

    def ours():
        score_class(rows, net, 0, 32, settings, (0, "a"), 250)

    def bare():
        with torch.no_grad():
            for part, part_boxes in zip(pixels.reshape(6, 50, 3, 32, 32), boxes, strict=True):
                net(normalise(cut_many(list(part), list(part_boxes), 32, torch.device("cpu"))))

    return paired(ours, bare, 5)


def shell(command, cwd):
    """Run a command and return its seconds."""
    return clock(lambda: subprocess.run(command, cwd=cwd, check=True, capture_output=True))


def job_overhead(directory, run, stage):
    """Run one job of a stage; return its wall time without the stage function, in s."""
    results = directory / "results"
    benchmarks = results / "benchmarks" / stage
    smallest = [*benchmarks.glob("**/*ipc1-*.jsonl"), *benchmarks.glob("*ipc1-*/*.jsonl")]
    benchmark = sorted(smallest or benchmarks.glob("**/*.jsonl"))[-1]
    place = str(benchmark.relative_to(results / "benchmarks")).removesuffix(".jsonl")
    target, folders = results / "manifests" / f"{place}.json", [results / place]
    if target.exists():
        folders = [directory / folder for folder in json.loads(target.read_text())["members"]]
        target.unlink()
    else:
        target = folders[0] / stages()[stage].files[0]
    for folder in folders:
        shutil.rmtree(folder)
    shell([*run, str(target.relative_to(directory))], directory)
    wall = json.loads(benchmark.read_text().splitlines()[-1])["s"]
    return wall - sum(store.read_timing(folder)["seconds"] for folder in folders)


def methods():
    """Print the rows of denoisers, group sampling and synthesis, on one thread as jobs have it."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        up, down = denoising.loops(Path(folder))
    loop = f"{denoising.COUNT} steps with guidance, {denoising.N} latents, DiT 128 wide / forwards"
    line(f"inversion, {loop}", up, "1.1")
    line(f"sampling, {loop}", down, "1.1")
    for what, case in class_scoring.CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            line(f"{what} / forwards", class_scoring.timed(Path(folder), *case), "1.15")
    for name, settings in (("paper's", groups.PAPER), ("code's", groups.CODE)):
        what = f"the best of 3000 groups, {name} loss, n = 10, d = 4096 / drawing them"
        line(what, groups.over_drawing(settings), "1.43")
    ours = groups.over_straightforward(torch.device("cpu"), 3000)
    line("the best of 3000 groups / the straightforward version, CPU", ours, "")
    if torch.cuda.is_available():
        ours = groups.over_straightforward(torch.device("cuda"), 100_000)
        line("the best of 100,000 groups / the straightforward version, GPU", ours, "0.2")
    print(f"| memory that it adds [MB] | | | {groups.peak_memory() / 1e6:.0f} | | 1000 |")
    for what, case in synthesising.CASES.items():
        count = f"{synthesising.STEPS} steps of {synthesising.N} images, 32 px"
        line(f"synthesis, {what}, {count} / bare passes", synthesising.steps(*case), "1.25")
    for what, case in utilities.DM.items():
        line(f"3 steps of DM, {what} / bare passes", utilities.dm_step(*case), "1.1")
    for what, case in utilities.TM.items():
        line(f"adjoint of 10 steps, {what} / whole graph", utilities.tm_steps(*case), "1.35")
    for method in ("trajectory_gradient", "whole_graph"):
        bytes_of = [utilities.peak_memory(method, n_steps) for n_steps in (10, 40)]
        memory = ", ".join(f"{n / 1e6:.0f}" for n in bytes_of)
        print(f"| memory of {method}, digits, IPC 10, 10 and 40 steps [MB] | | | {memory} | | |")
    what = "rate-utility step, DM, 2 slices of 32 images, v4-480 / utility and one decoding of each"
    line(what, codec.joint_step(), "1.3")
    codec.rows()
    torch.set_num_threads(THREADS)


def runs():
    """Print the rows of runs of Snakemake: starts of jobs, nothing to do, the embedded default."""
    with tempfile.TemporaryDirectory() as folder:
        directory, snakemake = Path(folder), str(Path(sys.executable).parent / "snakemake")
        (directory / "empty.smk").touch()
        run = [snakemake, "--snakefile", str(ROOT / "Snakefile"), "--configfile"]
        run += [str(ROOT / "config.yaml"), "--cores", str(THREADS)]
        cold = shell(run, directory)
        torch_alone = [sys.executable, "-c", "import torch"]
        for stage in ("images", "labels", "students"):
            alone = functools.partial(job_overhead, directory, run, stage)
            pairs = [(alone(), shell(torch_alone, directory)) for _ in range(3)]
            ratios = sorted(ours / bound for ours, bound in pairs)
            medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
            measured = (ratios[1], ratios[0], ratios[2], *medians)
            line(f"overhead of a job of {stage} / import torch", measured, "1 + 0.5 s")
        empty = [snakemake, "-n", "--snakefile", "empty.smk", "--cores", "1"]
        nothing = paired(lambda: shell(run, directory), lambda: shell(empty, directory), 5)
        line("nothing to do / snakemake -n of an empty Snakefile", nothing, "2")
        print(f"| the embedded default, from nothing | | | {cold:.0f} | | 540 s |")


def main():
    """Measure everything and print the table."""
    torch.set_num_threads(THREADS)
    print(f"{datetime.date.today()}, {device_name(Context())}, torch {torch.__version__}\n")
    print("| what | ours / bound | smallest to largest | ours [s] | bound [s] | target |")
    print("| --- | --- | --- | --- | --- | --- |")
    line("student epoch, 20 steps of 50, ConvNet-3, 32 px / bare steps", student_step(), "1.15")
    with tempfile.TemporaryDirectory() as folder:
        what = "epoch of 10 steps of 50 in plain PyTorch from a label table / the workflow's"
        line(what, plain_student(Path(folder)), "")
    line("1500 patch scores, ConvNet-3, 32 px / cut and forward", patch_scoring(), "1.2")
    methods()
    if not ONCE:
        runs()


if __name__ == "__main__":
    main()
