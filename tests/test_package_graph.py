"""The package's import graph: one direction, no cycle, small folders."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "workflow/stillhouse"
# Each imports only packages to its left, and itself.
ORDER = (
    *("errors", "artifacts", "data", "decode", "networks", "augmentation", "training"),
    *("diffusion", "methods", "config", "planning", "evaluation", "reporting", "export"),
)
MOST_ENTRIES = 14


def module_of(path):
    """Return the dotted name of a file's module."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(path):
    """Return the modules of the package that a file imports, at any depth."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name in FILES}


IMPORTS = {name: imported(path) - {name} for name, path in FILES.items()}


def package(module):
    """Return the part of a module's name below ``stillhouse``; empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def test_every_package_has_a_place_in_the_order():
    assert {package(module) for module in FILES} - {""} == set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_a_package_imports_only_lower_ones(name):
    lower = {"", *ORDER[: ORDER.index(name) + 1]}
    upward = {
        (module, target)
        for module, targets in IMPORTS.items()
        for target in targets
        if package(module) == name and package(target) not in lower
    }
    assert not upward


def test_no_module_imports_itself_through_others():
    # Importing a module runs the packages around it, but those import nothing of the package.
    graph = {
        module: {target for target in targets if not module.startswith(f"{target}.")}
        for module, targets in IMPORTS.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules


@pytest.mark.parametrize("parent", ["", "data", "methods"])
def test_folders_side_by_side_do_not_import_each_other_in_a_circle(parent):
    start = f"stillhouse.{parent}." if parent else "stillhouse."
    graph = {}
    for module, targets in IMPORTS.items():
        for target in targets:
            if module.startswith(start) and target.startswith(start):
                importing, imported_name = (
                    name.removeprefix(start).split(".") for name in (module, target)
                )
                if (
                    importing[0] != imported_name[0]
                    and len(importing) > 1
                    and len(imported_name) > 1
                ):
                    graph.setdefault(importing[0], set()).add(imported_name[0])
    TopologicalSorter(graph).prepare()


def folders():
    """Return {folder: its modules and packages}."""
    paths = [path for path in PACKAGE.rglob("*") if path.is_dir() and path.name != "__pycache__"]
    return {
        folder: [
            path.name
            for path in folder.iterdir()
            if path.name != "__pycache__" and path.name != "__init__.py"
        ]
        for folder in [PACKAGE, *paths]
    }


@pytest.mark.parametrize("folder", folders(), ids=lambda path: path.name)
def test_a_folder_has_at_most_14_entries(folder):
    assert len(folders()[folder]) <= MOST_ENTRIES
