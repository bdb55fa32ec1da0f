"""Properties of the rules and the package: one rule per stage, light jobs."""

import ast
import collections
import json
import os
import re
import subprocess
import sys

import pytest
from snakemake_runs import ROOT, Folder
from stillhouse.methods.registry import METHODS, stages

pytestmark = pytest.mark.workflow

SNAKEFILES = [ROOT / "Snakefile", *sorted((ROOT / "workflow/rules").rglob("*.smk"))]
SCRIPTS = sorted((ROOT / "workflow/scripts").glob("*.py"))
REPORTS = {"tables", "curves", "charts", "contact_sheet", "page", "overview"}
FIGURES = {
    "rate_utility_progress",
    "heat_maps",
    "clusters_figure",
    "latent_space_figure",
    "synthesis_progress",
}


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """Return an empty folder, in which the embedded default is planned."""
    return Folder(tmp_path_factory.mktemp("default"))


@pytest.fixture(scope="module")
def default_jobs(default):
    """Return the jobs of the embedded default; each dry run takes seconds."""
    return default.plan(configfile=None)


def test_a_rule_is_named_after_its_stage_and_there_is_one_per_stage(default_jobs):
    # Experts' trajectories and whitenings are of settings that the default does not have.
    stages_of_default = stages().keys() - {"trajectories", "whitening"}
    assert {job.rule for job in default_jobs} == {*stages_of_default, *REPORTS, *FIGURES}
    outputs = [path for job in default_jobs for path in job.outputs]
    assert "results/tables/quickstart.csv" in outputs
    for job in default_jobs:
        if job.rule in stages():
            member = stages()[job.rule].member
            folder = f"results/manifests/{job.rule}/" if member else f"results/{job.rule}/"
            assert all(path.startswith(folder) for path in job.outputs), job


def test_more_classes_and_cells_add_jobs_and_no_rules(folder, config, default_jobs):
    few = {job.rule for job in folder.plan()}
    config["sources"]["digits"]["classes_per_block"] = 1
    config["compute"] |= {"seeds_per_job": 1, "batches_per_job": 1}
    config["experiments"]["tiny"] |= {"ipc": [1, 2, 3], "seeds": [0, 1, 2]}
    folder.configure(config)
    jobs = collections.Counter(job.rule for job in folder.plan())
    assert jobs.keys() == few
    assert jobs["images"] == 10
    assert jobs["students"] == 27
    assert jobs["synthesis"] == 10  # 2, 3 and 5 batches of two images
    # Per class, and the last two per IPC.
    assert jobs["patch_scores"] == jobs["latents"] == 3
    assert jobs["prototypes"] == jobs["decode"] == 9


def test_profiles_address_stages_by_their_names(default):
    arguments = ("--set-resources", "class_scores:mem_mb=123", "--set-threads", "features=2")
    jobs = default.plan(*arguments, configfile=None)
    assert {"mem_mb=123" in job.resources for job in jobs if job.rule == "class_scores"} == {True}
    assert not [j for j in jobs if j.rule != "class_scores" and "mem_mb=123" in j.resources]
    assert {job.rule for job in jobs if job.threads == 2} == {"index", "features"}


def test_jobs_ask_a_cluster_for_memory_and_time(default_jobs):
    for job in default_jobs:
        asks = "mem_mb=" in job.resources and "runtime=" in job.resources
        assert asks == (job.rule in stages()), job


def test_every_rules_file_is_included():
    written = (ROOT / "Snakefile").read_text()
    named = set(re.findall(r'^include: "(.+)"$', written, re.M))
    assert named == {f"workflow/rules/{p.name}" for p in (ROOT / "workflow/rules").glob("*.smk")}


@pytest.mark.parametrize("path", SNAKEFILES, ids=lambda path: path.name)
def test_no_rule_has_a_run_block_or_a_shadow(path):
    assert not re.search(r"^\s+(run|shadow):", path.read_text(), re.M)


def test_tables_figures_and_pages_are_drawn_where_snakemake_runs():
    text = "\n".join(path.read_text() for path in SNAKEFILES)
    rules = re.split(r"^ *rule\b", text, flags=re.M)[1:]
    drawn = [rule for rule in rules if '/report.py"' in rule]
    assert len(drawn) == len(REPORTS) + 1  # that of the figures of methods
    for rule in rules:
        assert ("localrule: True" in rule) == (rule in drawn), rule


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_hands_over_to_the_package(path):
    assert len(path.read_text().splitlines()) <= 10
    imports = [node for node in ast.parse(path.read_text()).body if hasattr(node, "module")]
    assert all(node.module.startswith("stillhouse.") for node in imports)


def test_the_package_imports_no_snakemake():
    for path in (ROOT / "workflow/stillhouse").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) snakemake", path.read_text(), re.M), path


def loaded(code):
    """Return the heavy modules that are loaded after running code in a process."""
    heavy = ("torch", "torchvision", "timm", "pandas", "pyarrow", "sklearn", "matplotlib")
    ending = f"; import json, sys; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", code + ending],
        env={**os.environ, "PYTHONPATH": str(ROOT / "workflow")},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout))


def test_light_jobs_load_no_torch():
    text = "\n".join(path.read_text() for path in SNAKEFILES)
    reports = re.findall(r'"(stillhouse[\w.]+):\w+"', text)
    assert len(reports) >= len(REPORTS)
    drawn = [figure.function for method in METHODS.values() for figure in method.figures]
    computed = [stages()[name].function for name in ("index", "images", "dataset")]
    modules = {*reports, *(name.partition(":")[0] for name in (*drawn, *computed))}
    assert not {"torch", "torchvision"} & loaded(f"import {', '.join(sorted(modules))}")


def test_parsing_the_workflow_loads_nothing_heavy():
    text = "\n".join(path.read_text() for path in SNAKEFILES)
    modules = re.findall(r"^(?:from|import) (stillhouse[\w.]*)", text, re.M)
    assert {"stillhouse.config.load", "stillhouse.planning.plan"} <= set(modules)
    code = (
        f"import {', '.join(modules)}; import yaml; "
        "from stillhouse.config import load; from stillhouse.planning import plan; "
        f"text = open({str(ROOT / 'config.yaml')!r}).read(); "
        "plan.build(load.complete(yaml.safe_load(text), 'config.yaml'))"
    )
    assert loaded(code) == set()


def test_a_profile_of_the_user_sets_how_many_jobs_use_gpus(folder):
    (folder / "lab").mkdir()
    (folder / "lab/profile.yaml").write_text("resources: [gpu=8]\n")
    assert provided(folder.make("--until", "index", "--profile", folder / "lab")) == 8


def test_jobs_share_a_gpu_as_the_config_has_it(cold, folder, config):
    assert provided(cold.done) == 1
    config["compute"]["jobs_per_gpu"] = 4
    folder.configure(config)
    assert provided(folder.make("--until", "index")) == 4


def test_trainings_ask_for_a_gpu_and_threads_per_process(folder, config):
    config["compute"] |= {"device": "cuda", "processes": 3, "threads": 2}
    folder.configure(config)
    jobs = {job.rule: job for job in folder.plan(cores=8)}
    for rule, count in {"teacher": 3, "denoiser": 3, "patch_scores": 1, "students": 1}.items():
        assert jobs[rule].threads == 2 * count
        assert f"gpu={count}" in jobs[rule].resources.split(", ")
        for resource in ("processes=3", "nodes=1"):
            assert (resource in jobs[rule].resources) == (count == 3)
    arguments = ("--until", "index", "--printshellcmds")
    config["compute"] |= {"device": "cpu", "jobs_per_gpu": 2}
    folder.configure(config)
    assert provided(folder.make(*arguments)) == 6


def provided(done):
    """Return how many jobs of an ended run may use a GPU at once."""
    line = re.search(r"^Provided resources: gpu=(.*)$", done.stdout + done.stderr, re.M)[1]
    return int(re.search(r"\d+", line)[0])
