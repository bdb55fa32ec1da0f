import contextlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from stillhouse.artifacts import store
from stillhouse.reporting import plotting
from stillhouse.reporting.method_figures import latent_space

from tests.reporting.fakes import spec_of

SNAPSHOTS = [10, 31]
D = 8


def quality(number, **changes):
    """Return the numbers of one class; `number` tells classes apart, tenths the snapshots."""
    measures = ("skewness", "kurtosis", "normal_share")
    after = {str(s): {m: number + s / 10 + i for i, m in enumerate(measures)} for s in SNAPSHOTS}
    trips = {str(s): {"images": 4, "latent_mse": number * s, "psnr": number + s} for s in SNAPSHOTS}
    before = {m: number / 10 + i for i, m in enumerate(measures)}
    return {"before": before, "after": after, "round_trip": trips, **changes}


def put(stage, name, class_id, settings, files, **keys):
    spec = spec_of(stage, f"{name}/{class_id}", settings, class_id=class_id, **keys)
    store.write(spec["address"], spec, files)
    return f"{spec['address']}/{next(iter(files))}"


def put_class(class_id, number, before, after, ipcs=(1, 3), group=0.0, changes=None):
    """Store inversion and samples of a class; `after` is of the second snapshot."""
    tensors = {
        "before": torch.tensor(before).half(),
        "after": torch.stack([torch.full(after.shape, 99.0), torch.tensor(after)]).half(),
        "snapshots": torch.tensor(SNAPSHOTS),
    }
    files = {"inversion.safetensors": tensors, "quality.json": quality(number, **(changes or {}))}
    paths = {"inversion": put("inversion", "s", class_id, {}, files)}
    for ipc in ipcs:
        tensors = {
            "latents": torch.full((ipc, 2, 2, 2), group),
            "losses": torch.tensor([number / ipc, 9.0, 9.0, 9.0]),
            "first": torch.tensor([2 * number / ipc, 8.0, 8.0, 8.0]),
        }
        files = {"samples.safetensors": tensors}
        path = put("samples", f"s/ipc{ipc}", class_id, {"snapshot": 31}, files, ipc=ipc)
        # The numbers of the names are not the IPC.
        paths[f"samples{9 - ipc}"] = path
    return class_id, paths


@pytest.fixture
def chart(empty, monkeypatch):
    """Return a function that draws classes; it returns the figure, the table and the SVG."""
    figures, svg_figure = [], plotting.svg_figure

    @contextlib.contextmanager
    def keep(*arguments, **options):
        with svg_figure(*arguments, **options) as (figure, axes, buffer):
            yield figure, axes, buffer
            figures.append(figure)

    monkeypatch.setattr(plotting, "svg_figure", keep)

    def draw(classes):
        files = {}
        for class_id, paths in classes:
            for name, path in paths.items():
                files.setdefault(name, {})[class_id] = path
        outputs = {"svg": Path("x.svg"), "csv": Path("x.csv")}
        params = {"files": files, "method": "m", "distill_seed": 4}
        latent_space.latent_space_figure({}, params, outputs)
        return figures[-1], pd.read_csv("x.csv"), Path("x.svg").read_text()

    return draw


def blobs(seed, count=20):
    rng = np.random.default_rng(seed)
    return rng.normal(seed, 1, (count, D)), rng.normal(-seed, 2, (count, D))


def places(axis, marker=None):
    """Return the places of every line of an axis."""
    lines = [line for line in axis.lines if len(line.get_xdata())]
    return [line.get_xydata() for line in lines if (line.get_marker() == "*") == (marker == "*")]


def components(points):
    """Return points along their first two principal components, signs left open."""
    centred = points - points.mean(0)
    return np.abs(centred @ np.linalg.svd(centred)[2][:2].T)


def test_latents_are_projected_on_their_principal_components(chart):
    data = {class_id: blobs(number) for number, class_id in enumerate("ab", 1)}
    classes = [put_class(c, i, *data[c], group=0.5) for i, c in enumerate("ab", 1)]
    figure, _, _ = chart(classes)
    (before, after, first, second) = figure.axes
    halves = [np.float64(np.float16(np.concatenate([data[c][i] for c in "ab"]))) for i in (0, 1)]
    found = np.abs(np.concatenate(places(before)))
    np.testing.assert_allclose(found, components(halves[0]), atol=1e-6)
    group = np.full((6, D), 0.5)
    wanted = components(np.concatenate([halves[1], group]))
    np.testing.assert_allclose(np.abs(np.concatenate(places(after))), wanted[:40], atol=1e-6)
    np.testing.assert_allclose(np.abs(np.concatenate(places(after, "*"))), wanted[40:], atol=1e-6)
    # The first class alone, along components of its own.
    alone = components(np.float64(np.float16(data["a"][0])))
    np.testing.assert_allclose(np.abs(np.concatenate(places(first))), alone, atol=1e-6)
    assert len(places(second)) == 1


def test_the_group_of_the_largest_ipc_is_marked_only_after_inversion(chart):
    figure, _, text = chart([put_class(c, 1, *blobs(i), (1, 2, 3)) for i, c in enumerate("ab", 1)])
    counts = [[len(p) for p in places(axis, "*")] for axis in figure.axes]
    assert counts == [[], [3, 3], [], [3]]
    assert "selected group, IPC 3" in text
    (stars,) = (line for line in figure.axes[3].lines if line.get_marker() == "*")
    assert stars.get_color() == figure.axes[3].lines[0].get_color()


def test_a_class_has_its_own_style_in_all_panels(chart):
    figure, _, text = chart([put_class(f"c{i}", 1, *blobs(i)) for i in range(12)])
    styles = [
        [(line.get_color(), line.get_marker()) for line in axis.lines if line.get_marker() != "*"]
        for axis in figure.axes
    ]
    # Of twelve classes, ten are shown.
    assert styles[0] == styles[1] and len(set(styles[0])) == 10
    assert styles[2] == styles[3] == styles[0][:1]
    assert "class c9" in text and "class c10" not in text
    assert text.count(">class c3<") == 1


def test_the_table_has_means_over_all_classes_by_ipc(chart):
    _, table, text = chart([put_class(f"c{i}", i, *blobs(i)) for i in range(1, 13)])
    mean = 6.5
    assert table["ipc"].tolist() == [1, 3]
    for ipc, row in zip((1, 3), table.to_dict("records"), strict=True):
        assert row.pop("method") == "m"
        wanted = {
            "distill_seed": 4,
            "ipc": ipc,
            "snapshot": 31,
            **{"skewness_before": 0.65, "kurtosis_before": 1.65, "normal_share_before": 2.65},
            **{"skewness_after": 9.6, "kurtosis_after": 10.6, "normal_share_after": 11.6},
            **{"latent_mse": mean * 31, "psnr": mean + 31},
            **{"loss_chosen": mean / ipc, "loss_random": 2 * mean / ipc},
        }
        assert row == pytest.approx(wanted, rel=1e-5)
    assert "|skewness| 0.65, kurtosis 1.65, 265 % of dims normal" in text
    assert "|skewness| 9.60, kurtosis 10.60, 1160 % of dims normal" in text


def test_undefined_values_of_a_class_are_left_out_of_the_mean(chart):
    unknown = {"skewness": 1.0, "kurtosis": None, "normal_share": None}
    classes = [
        put_class("a", 1, *blobs(1), changes={"before": unknown}),
        put_class("b", 3, *blobs(2)),
    ]
    _, table, _ = chart(classes)
    assert table["skewness_before"].tolist() == pytest.approx([0.65, 0.65])
    assert table["kurtosis_before"].tolist() == pytest.approx([1.3, 1.3])
    assert table["normal_share_before"].tolist() == pytest.approx([2.3, 2.3])


def test_one_class_has_one_row_of_panels(chart):
    figure, _, _ = chart([put_class("a", 1, *blobs(1))])
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["class a, before inversion", "class a, after 31 steps of inversion"]


def test_one_latent_is_too_few_for_a_chart(chart):
    _, _, text = chart([put_class("a", 1, *blobs(1, count=1), ipcs=(1,))])
    assert latent_space.TOO_FEW in text


def test_equal_latents_give_equal_bytes(chart):
    classes = [put_class(c, 1, *blobs(i)) for i, c in enumerate("ab")]
    first = [path.read_bytes() for path in map(Path, ("x.svg", "x.csv")) if chart(classes)]
    assert [path.read_bytes() for path in map(Path, ("x.svg", "x.csv")) if chart(classes)] == first
