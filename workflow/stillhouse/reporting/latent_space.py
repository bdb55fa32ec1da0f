"""Latents before and after inversion: what they look like, and how normal they are.

Figure 1 of Zhao et al., "Taming diffusion for dataset distillation with high representativeness"
(D3HR): latents of the autoencoder, and of the noise space with the chosen group.
"""

import numpy as np
import pandas as pd

from stillhouse.artifacts import store
from stillhouse.artifacts.addresses import class_of
from stillhouse.reporting import plotting

SHOWN_CLASSES = 10
PANEL = (5.0, 4.2)  # inches
MEASURES = ("skewness", "kurtosis", "normal_share")
ROUND_TRIP = ("latent_mse", "psnr")
FEW = "Too few latents to show."


def latent_chart(inputs, params, outputs):
    """Draw the latents of one method before and after inversion, and put down the numbers.

    Parameters
    ----------
    inputs : dict
        ``inversions``: ``inversion.safetensors`` of all classes, ``quality.json`` beside each;
        ``samples``: ``samples.safetensors`` of the same classes, for each IPC.
    params : dict
        ``method``, ``distill_seed``.
    outputs : dict
        ``svg`` shows the first ten classes and the group of the largest IPC; ``csv`` has a row an
        IPC, means over all classes.
    """
    chosen = {}
    for path in inputs["samples"]:
        spec = store.read_spec(path.parent)
        chosen.setdefault(spec["keys"]["ipc"], {})[class_of(path)] = path
        snapshot = spec["settings"]["snapshot"]
    normality = _normality(inputs["inversions"], snapshot)
    named = {name: params[name] for name in ("method", "distill_seed")}
    rows = [
        {**named, "ipc": ipc, "snapshot": snapshot, **normality, **_losses(paths.values())}
        for ipc, paths in sorted(chosen.items())
    ]
    text = pd.DataFrame(rows).to_csv(index=False, lineterminator="\n", float_format="%.6g")
    store.save_bytes(outputs["csv"], text.encode())
    largest = chosen[max(chosen)]
    spaces = {
        class_of(path): (*_spaces(path, snapshot), _group(largest[class_of(path)]))
        for path in inputs["inversions"][:SHOWN_CLASSES]
    }
    store.save_bytes(outputs["svg"], draw(spaces, rows[-1]))


def _spaces(path, snapshot):
    """Return the shown latents of a class before and after inversion, each (k, d) float32."""
    tensors = store.read_tensors(path)
    place = tensors["snapshots"].tolist().index(snapshot)
    return tensors["before"].float().numpy(), tensors["after"][place].float().numpy()


def _group(path):
    """Return the chosen group of a class, (n, d) float32."""
    return store.read_tensors(path)["latents"].flatten(1).numpy()


def _normality(paths, snapshot):
    """Return what ``quality.json`` says of normality and round trip, means over classes."""
    found = []
    for path in paths:
        quality = store.read_json(path.with_name("quality.json"))
        before, after = quality["before"], quality["after"][str(snapshot)]
        trip = quality["round_trip"][str(snapshot)]
        found.append(
            {f"{name}_before": before[name] for name in MEASURES}
            | {f"{name}_after": after[name] for name in MEASURES}
            | {name: trip[name] for name in ROUND_TRIP}
        )
    # What is not defined for one class (too few images) is left out of the mean.
    return pd.DataFrame(found, dtype=float).mean().to_dict()


def _losses(paths):
    """Return the loss of the chosen groups, and of a random one each; means over classes."""
    tensors = [store.read_tensors(path) for path in paths]
    return {
        "loss_chosen": float(np.mean([one["losses"][0] for one in tensors])),
        "loss_random": float(np.mean([one["first"][0] for one in tensors])),
    }


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
        SVG. Each panel is along the two principal components of all that it shows: were the group
        left out of them, it would seem to lie nearer to the middle than the latents that they fit.
        A colour and mark a class.
    """
    first = next(iter(spaces))
    rows = [spaces, {first: spaces[first]}] if len(spaces) > 1 else [spaces]
    with plotting.drawing(len(rows), 2, PANEL) as (figure, axes, out):
        for shown, (before, after) in zip(rows, axes, strict=True):
            which = f"class {first}" if len(shown) == 1 else f"{len(shown)} classes"
            befores, afters, groups = zip(*shown.values(), strict=True)
            _scatter(before, shown, befores)
            _scatter(after, shown, afters, groups)
            before.set_title(f"{which}, before inversion", fontsize="medium")
            title = f"{which}, after {numbers['snapshot']} steps of inversion"
            after.set_title(title, fontsize="medium")
        axes[0, 0].set_xlabel(_told(numbers, "before"))
        axes[0, 1].set_xlabel(_told(numbers, "after"))
        star = {"color": "black", "marker": "*", "markersize": 9, "linestyle": ""}
        axes[0, 1].plot([], [], label=f"chosen group, IPC {numbers['ipc']}", **star)
        plotting.legend(figure, axes)
    return out.getvalue()


def _told(numbers, when):
    """Return the normality of all classes in words."""
    skewness, kurtosis, share = (numbers[f"{name}_{when}"] for name in MEASURES)
    normal = "" if np.isnan(share) else f", {100 * share:.0f} % of dims normal"
    return f"|skewness| {skewness:.2f}, kurtosis {kurtosis:.2f}{normal}"


def _scatter(axis, names, latents, groups=()):
    """Draw classes along the principal components of their latents, and stars for the groups."""
    from sklearn.decomposition import PCA

    points = np.concatenate([*latents, *groups]).astype(np.float64)
    if min(points.shape) < 2:
        plotting.say(axis, FEW)
        return
    components = PCA(2, svd_solver="full").fit(points)
    looks = [_look(number) for number in range(len(latents))]
    for name, some, look in zip(names, latents, looks, strict=True):
        x, y = components.transform(some.astype(np.float64)).T
        axis.plot(x, y, label=f"class {name}", markersize=4, alpha=0.5, **look)
    for some, look in zip(groups, looks, strict=False):
        x, y = components.transform(some.astype(np.float64)).T
        star = {"marker": "*", "markersize": 10, "markeredgecolor": "black", "zorder": 3}
        axis.plot(x, y, **look | star)


def _look(number):
    colours = plotting.COLOURS
    return {
        "color": colours[number % len(colours)],
        "marker": plotting.MARKERS[number // len(colours) % len(plotting.MARKERS)],
        "markeredgewidth": 0.5,
        "linestyle": "",
    }
