"""Declarations of every method, and their imports."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from stillhouse.config.schema import definition, fill
from stillhouse.methods import registry
from stillhouse.methods.base import Method

ROOT = Path(__file__).parents[2]
MINIMAL = {
    "random": {},
    "herding": {"feature_space": "pixels"},
    "kmeans": {"feature_space": "t"},
    "rded": {"teacher": "t"},
    "ddps": {"denoiser": "n"},
    "d3hr": {"denoiser": "n"},
    "d4m": {"denoiser": "n"},
    "sre2l": {"observers": ["t"]},
    "cda": {"observers": ["t"]},
    "gvbsm": {"observers": ["t", "u"]},
    "edc": {"observers": ["t", "u"]},
    "dm": {"network": "s"},
    "gm": {"network": "s"},
    "given": {"folder": "mine", "sha256": "0" * 64},
    "compressed": {"warmup": {"beta": 1}},
    "ruo": {"utility": "dm", "network": "s", "warmup": {"beta": 1}, "joint": {"lambda": [1]}},
    "tm": {"network": "s", "student_steps": 2, "expert_epochs": 1, "start_epochs": 2},
}


def filled(kind, fidelity="code", **changes):
    """Return settings of a method with the schema's defaults."""
    settings = {"kind": kind, "fidelity": fidelity, **MINIMAL[kind], **changes}
    return fill(settings, definition("method"))


def heavy_imports(modules, heavy):
    """Return those of the packages ``heavy`` that importing ``modules`` brings in."""
    code = f"import sys, {', '.join(modules)}; print(*{heavy!r} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "workflow")},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_the_registry_is_light():
    """The Snakefile imports it."""
    heavy = {"torch", "numpy", "pyarrow", "pandas", "scipy", "sklearn"}
    assert heavy_imports(["stillhouse.methods.registry"], heavy) == []


def test_sets_of_stored_images_need_no_torch():
    """Their jobs only collect images, and importing torch takes most of such a job's time."""
    images = [registry.method(kind).images for kind in ("sre2l", "gvbsm", "edc", "dm", "gm", "tm")]
    images += [registry.method(kind).images for kind in ("compressed", "ruo", "given")]
    modules = {text.partition(":")[0] for text in images}
    modules |= {"stillhouse.methods.distilled", "stillhouse.data.distilled_set"}
    assert heavy_imports(sorted(modules), {"torch"}) == []


def test_stages_load_diffusers_when_they_use_it():
    """As other libraries that not all jobs of a stage use; clusters and prototypes never do."""
    modules = {stage.function.partition(":")[0] for stage in registry.stages().values()}
    assert heavy_imports(sorted(modules), {"diffusers", "timm", "torch._dynamo"}) == []


def test_every_kind_of_the_schema_is_a_method():
    assert registry.METHODS.keys() == MINIMAL.keys()
    for kind in registry.METHODS:
        assert registry.method(kind).kind == kind
        assert fill({"kind": kind}, definition("method"))["kind"] == kind


@pytest.mark.parametrize("text", sorted({m.images for m in registry.METHODS.values()}))
def test_images_are_of_one_class(text):
    module, _, name = text.partition(":")
    function = getattr(importlib.import_module(module), name)
    assert list(inspect.signature(function).parameters) == [
        *("inputs", "spec", "class_id", "context"),
    ]


@pytest.mark.parametrize("stage", registry.stages().values(), ids=lambda stage: stage.name)
def test_a_stage_has_its_function(stage):
    assert list(inspect.signature(stage.load()).parameters) == ["inputs", "spec", "context"]


def test_stages_and_figures_have_one_name_each():
    own = [stage for m in registry.METHODS.values() for stage in m.stages]
    assert len({stage.name for stage in own}) == len(set(own))
    figures = {figure for m in registry.METHODS.values() for figure in m.figures}
    assert len({figure.name for figure in figures}) == len(figures)
    for figure in figures:
        assert (ROOT / f"workflow/report/{figure.caption}.rst").is_file()
        module, _, name = figure.function.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("kind", MINIMAL)
@pytest.mark.parametrize("fidelity", ["code", "paper"])
def test_resolved_settings_are_settled(kind, fidelity):
    method = registry.method(kind)
    resolved = method.resolve(filled(kind, fidelity))
    assert (resolved["kind"], resolved["fidelity"]) == (kind, fidelity)
    idle = {
        (unused.group, name)
        for unused in method.unused(method.with_switches(filled(kind, fidelity)))
        for name in unused.names
    }
    for group, name in idle:
        settings = resolved.get(group, {}) if group else resolved
        # Convolutions that are not matched have no tiles and no dropout, written as 0.
        assert settings.get(name, 0) == 0


@pytest.mark.parametrize("kind", MINIMAL)
def test_explicit_settings_override_the_fidelity(kind):
    method = registry.method(kind)
    code = method.resolve(filled(kind, "code"))
    switches = {
        name: {**MINIMAL[kind].get(name, {}), **{k: code[name][k] for k in value}}
        if isinstance(value, dict)
        else code[name]
        for name, value in method.fidelity["code"].items()
        if name in code
    }
    assert method.resolve(filled(kind, "paper", **switches)) == {**code, "fidelity": "paper"}


@pytest.mark.parametrize("kind", MINIMAL)
def test_a_method_names_the_teachers_and_denoisers_of_its_settings(kind):
    method = registry.method(kind)
    resolved = method.resolve(filled(kind))
    keys = {"teacher", "observers", "feature_space", "denoiser"}
    settings = {k: v for k, v in MINIMAL[kind].items() if k in keys and v != "pixels"}
    named = {key: [value] if isinstance(value, str) else value for key, value in settings.items()}
    assert method.teachers(resolved) | method.denoisers(resolved) == named


class Bare(Method):
    """A method that has nothing but a plan."""

    def plan(self, task):
        return {}, {}


def test_a_method_adds_nothing_by_default():
    method = Bare()
    settings = {"kind": "", "fidelity": "code", "a": 1}
    assert method.resolve(settings) == settings
    assert method.teachers(settings) == {} and method.starts_from(settings) is None
    assert method.denoisers(settings) == {} and method.pretrained(settings) == {}
    assert not method.baseline and not method.statistics_note
    assert method.max_ipc("k", settings, [1], 7, 8) == (7, "the smallest class has 7 images")
    assert method.storage_bytes({}) == {}
