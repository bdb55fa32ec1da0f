"""Latents before and after inversion, and their normality.

Figure 1 of Zhao et al., "Taming diffusion for dataset distillation with high representativeness"
(D3HR): latents of the autoencoder, and of the noise space with the selected group.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stillhouse.artifacts import formats, store
from stillhouse.reporting import plotting, table_layout

MAX_CLASSES = 10
PANEL = (5.0, 4.2)  # inches
MEASURES = ("skewness", "kurtosis", "normal_share")
ROUND_TRIP = ("latent_mse", "psnr")
TOO_FEW = "Too few latents to show."
NOTES = [
    "Means over all classes. Of the latents' dimensions: |skewness| (0 if normal), kurtosis (3 if "
    "normal), and the share whose normality D'Agostino and Pearson's test does not reject (5 %).",
    "Round trip: inverted, sampled back and decoded, at the guidance used; compared with the "
    "latents and their decoded images.",
    "Loss of the selected group, and of one drawn at random.",
]
# Columns of the CSV on the page: group, name, unit, factor, format.
COLUMNS = {
    "snapshot": ("inversion", "steps", "", 1, ".0f"),
    "skewness_before": ("mean |skewness|", "before", "", 1, ".2f"),
    "skewness_after": ("mean |skewness|", "after", "", 1, ".2f"),
    "kurtosis_before": ("mean kurtosis", "before", "", 1, ".2f"),
    "kurtosis_after": ("mean kurtosis", "after", "", 1, ".2f"),
    "normal_share_before": ("normal dimensions", "before", "%", 100, ".1f"),
    "normal_share_after": ("normal dimensions", "after", "%", 100, ".1f"),
    "latent_mse": ("round trip", "latent MSE", "", 1, ".4g"),
    "psnr": ("round trip", "PSNR", "dB", 1, ".1f"),
    "loss_chosen": ("group loss", "selected", "", 1, ".4g"),
    "loss_random": ("group loss", "random", "", 1, ".4g"),
}


def latent_space_figure(inputs, params, outputs):
    """Draw the latents of one method before and after inversion, and write their normality.

    Parameters
    ----------
    inputs : dict
    params : dict
        ``method``, ``distill_seed``; ``files`` by class id: ``inversion``
        (``inversion.safetensors``, with ``quality.json`` beside), all others the
        ``samples.safetensors`` of one IPC each.
    outputs : dict
        ``svg``: the first ten classes and the group of the largest IPC; ``csv``: one row per IPC,
        means over all classes.
    """
    files = {name: _paths(paths) for name, paths in params["files"].items()}
    inversions = files.pop("inversion")
    specs = {name: store.read_spec(next(iter(p.values())).parent) for name, p in files.items()}
    samples = {specs[name]["keys"]["ipc"]: paths for name, paths in files.items()}
    largest = samples[max(samples)]
    snapshot = next(iter(specs.values()))["settings"]["snapshot"]
    normality = _normality(inversions.values(), snapshot)
    identity = {name: params[name] for name in ("method", "distill_seed")}
    rows = [
        {**identity, "ipc": ipc, "snapshot": snapshot, **normality, **_losses(paths.values())}
        for ipc, paths in sorted(samples.items())
    ]
    text = pd.DataFrame(rows).to_csv(index=False, lineterminator="\n", float_format="%.6g")
    formats.save_bytes(outputs["csv"], text.encode())
    spaces = {
        class_id: (*_spaces(path, snapshot), _group(largest[class_id]))
        for class_id, path in list(inversions.items())[:MAX_CLASSES]
    }
    formats.save_bytes(outputs["svg"], draw(spaces, rows[-1]))


def _paths(by_class):
    return {class_id: Path(path) for class_id, path in by_class.items()}


def _spaces(path, snapshot):
    """Return stored latents of a class before and after inversion, each (k, d) float32."""
    tensors = store.read_tensors(path)
    index = tensors["snapshots"].tolist().index(snapshot)
    return tensors["before"].float().numpy(), tensors["after"][index].float().numpy()


def _group(path):
    """Return the selected group of a class, (n, d) float32."""
    return store.read_tensors(path)["latents"].flatten(1).numpy()


def _normality(paths, snapshot):
    """Return normality and round-trip errors from each ``quality.json``, means over classes."""
    rows = []
    for path in paths:
        quality = store.read_json(path.with_name("quality.json"))
        before, after = quality["before"], quality["after"][str(snapshot)]
        round_trip = quality["round_trip"][str(snapshot)]
        rows.append(
            {f"{name}_before": before[name] for name in MEASURES}
            | {f"{name}_after": after[name] for name in MEASURES}
            | {name: round_trip[name] for name in ROUND_TRIP}
        )
    # Values that are undefined for a class (too few images) are left out of the mean.
    return pd.DataFrame(rows, dtype=float).mean().to_dict()


def _losses(paths):
    """Return the loss of the selected groups, and of a random one each; means over classes."""
    tensors = [store.read_tensors(path) for path in paths]
    return {
        "loss_chosen": float(np.mean([of_class["losses"][0] for of_class in tensors])),
        "loss_random": float(np.mean([of_class["first"][0] for of_class in tensors])),
    }


def number_table(tables):
    """Return the page's table of normality, round trip and losses.

    Parameters
    ----------
    tables : list of (str, pandas.DataFrame)
        The names of the methods that share a CSV of `latent_space_figure`, and the CSV.

    Returns
    -------
    dict
        ``title``, ``columns`` and ``notes``.
    """
    rows = pd.concat([table.assign(names=names) for names, table in tables])
    columns = [
        table_layout.Column("set", "method", "", rows["names"].tolist()),
        table_layout.Column("set", "IPC", "", [str(ipc) for ipc in rows["ipc"]]),
        *(
            table_layout.Column(
                group, name, unit, [_formatted(factor * value, digits) for value in rows[column]]
            )
            for column, (group, name, unit, factor, digits) in COLUMNS.items()
        ),
    ]
    return {"title": "Inversion", "columns": columns, "notes": NOTES}


def _formatted(value, digits):
    return table_layout.MISSING if pd.isna(value) else format(value, digits)


def draw(spaces, numbers):
    """Draw latents before and after inversion, of all classes and of the first one alone.

    Parameters
    ----------
    spaces : dict of str to (before, after, group)
        By class id, each (n, d) float32; the group is marked after inversion.
    numbers : dict
        ``ipc``, ``snapshot``, and `MEASURES` before and after.

    Returns
    -------
    bytes
        SVG. Each panel is projected on the two principal components of all its points: were the
        group left out of the fit, it would appear closer to the centre than the latents that it
        matches. One colour and marker per class.
    """
    first = next(iter(spaces))
    rows = [spaces, {first: spaces[first]}] if len(spaces) > 1 else [spaces]
    with plotting.svg_figure(len(rows), 2, PANEL) as (figure, axes, buffer):
        for classes, (before, after) in zip(rows, axes, strict=True):
            name = f"class {first}" if len(classes) == 1 else f"{len(classes)} classes"
            befores, afters, groups = zip(*classes.values(), strict=True)
            _scatter(before, classes, befores)
            _scatter(after, classes, afters, groups)
            before.set_title(f"{name}, before inversion", fontsize="medium")
            title = f"{name}, after {numbers['snapshot']} steps of inversion"
            after.set_title(title, fontsize="medium")
        axes[0, 0].set_xlabel(_summary(numbers, "before"))
        axes[0, 1].set_xlabel(_summary(numbers, "after"))
        star = {"color": "black", "marker": "*", "markersize": 9, "linestyle": ""}
        axes[0, 1].plot([], [], label=f"selected group, IPC {numbers['ipc']}", **star)
        plotting.legend(figure, axes)
    return buffer.getvalue()


def _summary(numbers, when):
    """Format the mean normality over all classes."""
    skewness, kurtosis, share = (numbers[f"{name}_{when}"] for name in MEASURES)
    normal = "" if np.isnan(share) else f", {100 * share:.0f} % of dims normal"
    return f"|skewness| {skewness:.2f}, kurtosis {kurtosis:.2f}{normal}"


def _scatter(axis, names, latents, groups=()):
    """Draw classes projected on their latents' principal components, groups as stars."""
    from sklearn.decomposition import PCA

    points = np.concatenate([*latents, *groups]).astype(np.float64)
    if min(points.shape) < 2:
        plotting.annotate(axis, TOO_FEW)
        return
    components = PCA(2, svd_solver="full").fit(points)
    styles = [_style(number) for number in range(len(latents))]
    for name, of_class, style in zip(names, latents, styles, strict=True):
        x, y = components.transform(of_class.astype(np.float64)).T
        axis.plot(x, y, label=f"class {name}", markersize=4, alpha=0.5, **style)
    for group, style in zip(groups, styles, strict=False):
        x, y = components.transform(group.astype(np.float64)).T
        star = {"marker": "*", "markersize": 10, "markeredgecolor": "black", "zorder": 3}
        axis.plot(x, y, **style | star)


def _style(number):
    colours = plotting.COLOURS
    return {
        "color": colours[number % len(colours)],
        "marker": plotting.MARKERS[number // len(colours) % len(plotting.MARKERS)],
        "markeredgewidth": 0.5,
        "linestyle": "",
    }
