"""Inputs of the tables, figures and pages of an experiment."""

from pathlib import Path

import pytest
from diffused import with_denoisers
from stillhouse.methods import registry
from stillhouse.methods.base import Figure, Method
from stillhouse.planning import reports

from tests.planning.configs import SYNTHESES, build, with_matching, with_observers


@pytest.fixture
def cells(tiny):
    """Return the cells of methods with a denoiser and of those that synthesise, two seeds each."""
    kinds, methods = ["random", "d3hr", "ddps", "d4m", *SYNTHESES], tiny["methods"]
    with_observers(with_denoisers(tiny))["methods"] |= methods
    tiny["experiments"]["x"] |= {"methods": kinds, "distill_seeds": [0, 3]}
    return build(tiny).experiments["x"]


def test_identities_name_the_folder_of_the_student(cells):
    first = reports.identities(cells)[0]
    assert first.items() >= {"method": "random", "ipc": 1, "seed": 0}.items()
    assert Path(first["artifact"]).name == "seed0"
    assert Path(first["artifact"]).parent == cells[0]["artifact"].directory


def test_an_added_seed_is_another_manifest(tiny):
    def named():
        wanted = build(tiny)
        return reports.cell_manifests(wanted, wanted.experiments["x"])

    before = named()
    tiny["experiments"]["x"]["seeds"] = [0, 1, 2]
    # Two methods at two IPCs, soft and hard labels.
    assert len(before) == len(named()) == 8
    assert not set(before) & set(named())


def test_sets_and_label_tables_are_counted_once(tiny):
    wanted = build(tiny)
    files = reports.counted_files(wanted.experiments["x"])
    expected = [*wanted.artifacts["distilled"].values(), *wanted.artifacts["labels"].values()]
    assert sorted(files) == sorted(artifact.file for artifact in expected)


@pytest.mark.parametrize("on_bad_image", ["error", "skip"])
def test_indexes_that_skip_images_are_noted(tiny, on_bad_image):
    tiny["sources"]["digits"]["on_bad_image"] = on_bad_image
    wanted = build(tiny)
    (index,) = wanted.artifacts["index"].values()
    skipping = [index.file] if on_bad_image == "skip" else []
    assert reports.skipping_indexes(wanted.experiments["x"]) == skipping


def test_datasets_of_cells_and_of_their_teachers_are_noted(tiny):
    tiny["datasets"]["four"] = {**tiny["datasets"]["three"], "classes": ["0", "1", "2", "3"]}
    tiny["teachers"]["t"]["dataset"] = "four"
    wanted = build(tiny)
    actual = reports.datasets(wanted.experiments["x"])
    assert sorted(actual) == sorted(one.file for one in wanted.artifacts["dataset"].values())
    assert len(actual) == 2


def test_shown_sets_are_those_of_the_cells(cells):
    sets = reports.distilled_files(cells)
    assert len(sets) == 7 * 2 * 2  # methods, IPCs, seeds
    path, identity = next(iter(sets.items()))
    assert path == cells[0]["artifact"].upstream["distilled"].file
    assert identity == {"method": "random", "ipc": 1, "distill_seed": 0}


def test_a_figure_is_drawn_once_per_method_and_seed(cells):
    figures = reports.figures(cells)
    drawn = {(name, method) for name, method, seed in figures if seed == 3}
    assert drawn == {
        *(("latents", "d3hr"), ("heat_maps", "ddps"), ("clusters", "ddps")),
        *((name, kind) for name in ("synthesis", "terms") for kind in SYNTHESES),
    }
    assert len(figures) == 2 * len(drawn)
    _, inputs, methods = figures["latents", "d3hr", 0]
    assert list(inputs) == ["inversion", "samples_ipc1", "samples_ipc2"]
    assert all(members == ["0", "1", "2"] for _, members in inputs.values())
    assert methods == ["d3hr"]
    _, inputs, _ = figures["synthesis", "edc", 0]
    artifact, members = inputs["synthesis"]
    assert artifact.keys == {"ipc": 2, "seed": 0} and members == [0]


def test_methods_share_figures_of_shared_artifacts(tiny):
    with_denoisers(tiny)
    tiny["methods"] = {
        "a": {"kind": "ddps", "denoiser": "own"},
        "b": {"kind": "ddps", "denoiser": "own", "encoding": "jpeg"},
        "c": {"kind": "ddps", "denoiser": "own", "ranking": "score"},
    }
    tiny["experiments"]["x"]["methods"] = ["a", "b", "c"]
    figures = reports.figures(build(tiny).experiments["x"])
    methods = {key: names for key, (_, _, names) in figures.items()}
    assert methods == {
        ("heat_maps", "a", 0): ["a", "b", "c"],
        ("clusters", "a", 0): ["a", "b"],
    }


def test_a_figure_may_show_an_artifact_without_members(tiny):
    wanted = build(with_matching(tiny))
    figures = reports.figures(wanted.experiments["x"])
    assert {name for name, *_ in figures} == {"synthesis", "terms"}
    for kind in ("dm", "gm", "tm"):
        _, inputs, _ = figures["synthesis", kind, 0]
        artifact, members = inputs["synthesis"]
        assert artifact.stage.name == "matched" and artifact.keys["ipc"] == 2
        assert reports.figure_sources(wanted, artifact, members) == [artifact.file]
        assert reports.shown_files(artifact, members) == {0: artifact.file}


def test_a_figure_shows_members_by_their_files(tiny):
    wanted = build(with_observers(with_denoisers(tiny)))
    _, inputs, _ = reports.figures(wanted.experiments["x"])["synthesis", "edc", 0]
    artifact, members = inputs["synthesis"]
    assert reports.figure_sources(wanted, artifact, members) == wanted.manifests(artifact, [0])
    assert reports.shown_files(artifact, members) == {0: artifact.member_file(0)}


def test_files_of_figures_are_named_by_experiment_method_and_seed(cells):
    drawn = reports.figures(cells)
    files = reports.figure_files("x", drawn)
    assert files["results/figures/x/latents-d3hr-seed3.svg"] == {
        **{"name": "latents", "caption": "latents", "methods": ["d3hr"], "distill_seed": 3},
        "title": "Latents before and after inversion",
        "numbers": "stillhouse.reporting.method_figures.latent_space:number_table",
    }
    assert reports.figure_numbers("x", drawn) == [
        f"results/figures/x/latents-d3hr-seed{seed}.csv" for seed in (0, 3)
    ]


def test_every_figure_of_a_method_has_a_rule():
    rules = reports.drawing_rules()
    figures = {figure.name for one in registry.METHODS.values() for figure in one.figures}
    assert {one.name for _, drawn in rules.values() for one in drawn.values()} == figures
    assert all(function.endswith(f":{rule}") for rule, (function, _) in rules.items())


@pytest.mark.parametrize(
    ("function", "suffix", "problem"),
    [
        ("elsewhere:heat_maps", "png", "a rule of this name exists"),
        ("elsewhere:latents", "png", "a rule of this name exists"),
        (
            "stillhouse.reporting.method_figures.score_maps:heat_maps",
            "png",
            "draws two figures with suffix 'png'",
        ),
    ],
)
def test_figures_of_methods_do_not_take_each_others_files(monkeypatch, function, suffix, problem):
    figure = Figure("other", "Other", "terms", function, lambda sets: {}, suffix)
    toy = type("Toy", (Method,), {"kind": "toy", "plan": None, "figures": (figure,)})()
    monkeypatch.setitem(registry.METHODS, "toy", toy)
    with pytest.raises(ValueError, match=problem):
        reports.drawing_rules()


def test_contents_of_reports_change_with_what_they_show(tiny, monkeypatch):
    def contents():
        return reports.table_contents(build(tiny).experiments["x"])

    seen = [contents(), contents()]
    tiny["experiments"]["x"]["seeds"] = [0, 1, 2]
    seen.append(contents())
    tiny["protocols"]["soft"]["report"] = "best"
    seen.append(contents())
    monkeypatch.setitem(reports.REPORT_VERSIONS, "tables", 0)
    seen.append(contents())
    assert seen[0] == seen[1] and len(set(seen)) == 4

    files = {"scores": {"0": "a", "1": "b"}}
    figures = [
        reports.figure_contents("t", files),
        reports.figure_contents("u", files),
        reports.figure_contents("t", {"scores": {"1": "b", "0": "a"}}),
        reports.figure_contents("t", {"scores": {"0": "a"}}),
    ]
    assert len(set(figures)) == 4
