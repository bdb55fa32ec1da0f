"""Progress of a joint optimisation of rate and utility: its images, and its curves."""

from pathlib import Path

from stillhouse.artifacts import formats, store
from stillhouse.reporting import plotting
from stillhouse.reporting.method_figures.synthesis_progress import interval_ends, snapshot_sheet

CURVES = {
    "utility": "utility loss",
    "bits_per_pixel": "rate of latents [bits per pixel]",
    "psnr": "PSNR to the warm-up [dB]",
}


def rate_utility_progress(inputs, params, outputs):
    """Draw the snapshots of a set, one row per time, and its curves over the iterations.

    Parameters
    ----------
    inputs : dict
    params : dict
        ``title``; ``files``: ``rate_utility``, the state of the optimisation.
    outputs : dict
        ``png``: the snapshots; ``svg``: the curves.
    """
    (path,) = map(Path, params["files"]["rate_utility"].values())
    iterations = store.read_spec(path.parent)["settings"]["joint"]["iterations"]
    sheet = snapshot_sheet(path.with_name("snapshots.parquet"), params["title"])
    formats.save_bytes(outputs["png"], sheet)
    curve = store.read_json(path.with_name("curve.json"))["curve"]
    formats.save_bytes(outputs["svg"], curves(curve, iterations, params["title"]))


def curves(curve, iterations, title):
    """Draw utility, rate and PSNR over the iterations, a panel each.

    Parameters
    ----------
    curve : dict of str to list of float
        Means over equally long stretches of the iterations, by the names of `CURVES`.
    iterations : int
    title : str

    Returns
    -------
    bytes
        SVG.
    """
    with plotting.svg_figure(len(CURVES), 1, panel=(5.0, 2.2)) as (_, axes, buffer):
        for axis, (name, label) in zip(axes[:, 0], CURVES.items(), strict=True):
            values = curve[name]
            axis.plot(interval_ends(len(values), iterations), values, color=plotting.COLOURS[0])
            axis.set_ylabel(label, fontsize="small")
        axes[0, 0].set_yscale("log")
        axes[0, 0].yaxis.set_major_formatter("{x:g}")
        axes[0, 0].yaxis.set_minor_formatter("{x:g}")
        plotting.title(axes[0, 0], title, "")
        axes[-1, 0].set_xlabel("iteration")
    return buffer.getvalue()
