"""What holds for the rules and the package as they are written."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.workflow

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "workflow/scripts").glob("*.py"))
PACKAGE = sorted((ROOT / "workflow/stillhouse").rglob("*.py"))
INCLUDED = [
    ROOT / path for path in re.findall(r'^include: "(.+)"$', (ROOT / "Snakefile").read_text(), re.M)
]


def rules_files():
    """Return {stage: position of its rules file among the includes}."""
    definition = re.compile(r'^ *rule (\w+):|plan\.blocks\("(\w+)"|^ +f"(\w+?)_\{', re.M)
    return {
        next(filter(None, found)): position
        for position, path in enumerate(INCLUDED)
        for found in definition.findall(path.read_text())
    }


def test_every_rules_file_is_included(cold):
    assert set(INCLUDED) == set((ROOT / "workflow/rules").glob("*.smk"))


def test_no_rule_reads_what_a_later_file_makes(folder):
    position, jobs = rules_files(), folder.plan()
    maker = {output: job.stage for job in jobs for output in job.outputs}
    assert len({job.stage for job in jobs}) == 12
    for job in jobs:
        for path in job.inputs:
            if path in maker:
                assert position[maker[path]] <= position[job.stage], (job.stage, path)


@pytest.mark.parametrize("path", [ROOT / "Snakefile", *INCLUDED], ids=lambda path: path.name)
def test_no_rule_has_a_run_block_or_a_shadow(path):
    assert not re.search(r"^\s+(run|shadow):", path.read_text(), re.M)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_hands_over_to_the_package_and_does_nothing_else(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 10
    docstring, *imports, call = ast.parse(text).body
    assert isinstance(docstring.value, ast.Constant)
    assert {type(node) for node in imports} == {ast.ImportFrom}
    assert all(node.module.startswith("stillhouse.") for node in imports)
    assert isinstance(call.value, ast.Call)
    assert [type(node) for node in call.value.args] == [ast.Name, ast.Name]
    assert not call.value.keywords


def imported(path):
    """Yield the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_the_package_imports_no_snakemake():
    assert len(PACKAGE) > 20
    for path in PACKAGE:
        assert not [name for name in imported(path) if name.split(".")[0] == "snakemake"], path


def loaded(code):
    """Return which heavy modules a process has loaded after some code."""
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


@pytest.mark.parametrize(
    "name",
    [
        *("index", "images", "tables", "curves", "charts", "contact_sheet", "page"),
        *("heat_maps", "cluster_sheet", "descents"),
    ],
)
def test_a_light_stage_does_not_load_torch(name):
    imports = [n for n in imported(ROOT / f"workflow/scripts/{name}.py")]
    assert imports
    assert not {"torch", "torchvision"} & loaded("import " + ", ".join(imports))


def test_parsing_the_workflow_loads_nothing_heavy():
    modules = [name for name in imported_by_rules() if name.startswith("stillhouse")]
    assert {
        "stillhouse.config.load",
        "stillhouse.planning.plan",
        "stillhouse.artifacts.addresses",
    } <= set(modules)
    code = (
        f"import {', '.join(modules)}; import yaml; "
        "from stillhouse.config import load; from stillhouse.planning import plan; "
        f"text = open({str(ROOT / 'config.yaml')!r}).read(); "
        "plan.build(load.complete(yaml.safe_load(text), 'config.yaml'))"
    )
    assert loaded(code) == set()


def imported_by_rules():
    """Return the modules that the Snakefile and its rules import."""
    text = "\n".join(path.read_text() for path in [ROOT / "Snakefile", *INCLUDED])
    return re.findall(r"^(?:from|import) ([\w.]+)", text, re.M)
