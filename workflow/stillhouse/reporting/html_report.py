"""The page of an experiment: one HTML file with everything in it, for a browser."""

import base64
import io
import re

import pandas as pd
from PIL import Image

from stillhouse.artifacts import lineage, store
from stillhouse.reporting import notes, table_layout, tables

CHARTS = {
    "accuracy": "Accuracy against images per class",
    "bytes": "Accuracy against bytes",
    "curves": "Learning curves",
    "cost": "Seconds a number costs",
}
PICTURES = {
    "latents": "Latents before and after inversion",
    "heat_maps": "Class scores",
    "clusters": "Clusters",
    "synthesis": "Images on their way",
    "terms": "Terms of the loss",
}
# Of the CSV of `stillhouse.reporting.latent_space.latent_chart`: group, name, unit, factor, format.
INVERSION = {
    "snapshot": ("inversion", "steps", "", 1, ".0f"),
    "skewness_before": ("mean |skewness|", "before", "", 1, ".2f"),
    "skewness_after": ("mean |skewness|", "after", "", 1, ".2f"),
    "kurtosis_before": ("mean kurtosis", "before", "", 1, ".2f"),
    "kurtosis_after": ("mean kurtosis", "after", "", 1, ".2f"),
    "normal_share_before": ("normal dimensions", "before", "%", 100, ".1f"),
    "normal_share_after": ("normal dimensions", "after", "%", 100, ".1f"),
    "latent_mse": ("round trip", "latent MSE", "", 1, ".4g"),
    "psnr": ("round trip", "PSNR", "dB", 1, ".1f"),
    "loss_chosen": ("loss of the group", "chosen", "", 1, ".4g"),
    "loss_random": ("loss of the group", "random", "", 1, ".4g"),
}
POINT = 4 / 3  # pixels


def page(inputs, params, outputs):
    """Write the page of one experiment; it asks for nothing outside itself.

    Parameters
    ----------
    inputs : dict
        ``csv``, ``accuracy``, ``bytes``, ``curves``, ``cost``: table and charts; ``sheets``:
        contact sheets; ``pictures``: of what methods chose and made; ``inversions``: the numbers
        beside each picture of latents; ``cells``: ``cell.json`` files; ``indexes``: as
        `tables.left_out` takes them; ``captions``: a text named after each chart and
        kind of picture; ``template``: for Jinja.
    params : dict
        ``cells``: the identity of each cell, in the order of the table. ``sheets``: ``method``,
        ``ipc`` and ``distill_seed`` of each sheet. ``pictures``: ``what`` of `PICTURES`,
        ``methods`` and ``distill_seed`` of each picture.
    outputs : dict
        ``html``.
    """
    import jinja2

    frame = tables.read(inputs["csv"][0], params["cells"])
    captions = {path.stem: " ".join(path.read_text().split()) for path in inputs["captions"]}
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.from_string(inputs["template"][0].read_text()).render(
        experiment=frame["experiment"].iloc[0],
        dataset=frame["dataset"].iloc[0],
        groups=table_layout.groups,
        sections=table_layout.sections(frame),
        notes=[
            *table_layout.accuracy_notes(frame),
            *notes.notes(frame),
            *table_layout.cost_notes(frame),
            *tables.left_out(inputs["indexes"]),
        ],
        charts={name: _chart(name, captions[name], inputs[name][0]) for name in CHARTS},
        sheets=_sheets(frame, params["sheets"], inputs["sheets"]),
        pictures=_pictures(frame, params["pictures"], inputs["pictures"], captions),
        inversions=_inversions(frame, params["pictures"], inputs["inversions"]),
        costs=table_layout.cost_columns(frame),
        lineages=list(_lineages(frame, inputs["cells"])),
    )
    store.save_bytes(outputs["html"], text.encode())


def _chart(name, caption, path):
    """Return title, caption, address and width [px] of a chart."""
    return {"title": CHARTS[name], "caption": caption, **_drawing(path)}


def _drawing(path):
    """Return address and width [px] of an SVG file."""
    data = path.read_bytes()
    width = float(re.search(rb'width="([\d.]+)pt"', data)[1]) * POINT
    return {"uri": _uri(data, "svg+xml"), "width": width}


def _photo(path):
    """Return address and width [px] of a PNG file."""
    data = path.read_bytes()
    return {"uri": _uri(data, "png"), "width": Image.open(io.BytesIO(data)).width}


def _pictures(frame, identities, paths, captions):
    """Return title, caption, address and width [px] of every picture, one kind after the other."""
    found = {what: [] for what in PICTURES}
    for one, path in zip(identities, paths, strict=True):
        title = f"{PICTURES[one['what']]}: {_methods(frame, one)}"
        file = _drawing(path) if path.suffix == ".svg" else _photo(path)
        found[one["what"]].append({"title": title, "caption": captions[one["what"]], **file})
    return [picture for of_kind in found.values() for picture in of_kind]


def _methods(frame, one):
    """Return the names of the methods that share a picture."""
    names = table_layout.set_names(frame)
    return ", ".join(names[method, one["distill_seed"]] for method in one["methods"])


def _inversions(frame, identities, paths):
    """Return the columns of the table of normality, round trip and losses; none for no method."""
    drawn = [_methods(frame, one) for one in identities if one["what"] == "latents"]
    tables = [pd.read_csv(path) for path in paths]
    if not tables:
        return []
    rows = pd.concat(
        [table.assign(names=names) for names, table in zip(drawn, tables, strict=True)]
    )
    return [
        table_layout.Column("set", "method", "", rows["names"].tolist()),
        table_layout.Column("set", "IPC", "", [str(ipc) for ipc in rows["ipc"]]),
        *(
            table_layout.Column(group, name, unit, [_number(factor * x, how) for x in rows[column]])
            for column, (group, name, unit, factor, how) in INVERSION.items()
        ),
    ]


def _number(value, how):
    return table_layout.NOTHING if pd.isna(value) else format(value, how)


def _sheets(frame, identities, paths):
    """Return {IPC: sheets}, each with its name, address and width [px]."""
    names, found = table_layout.set_names(frame), {}
    for sheet, path in zip(identities, paths, strict=True):
        name = names[sheet["method"], sheet["distill_seed"]]
        found.setdefault(sheet["ipc"], []).append({"name": name, **_photo(path)})
    return found


def _uri(data, kind):
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _lineages(frame, paths):
    """Yield (what, accuracy, folder, text) of every number, told for the first of its students."""
    names = table_layout.set_names(frame)
    keys = ["student", "method", "distill_seed", "ipc", "protocol"]
    for (student, method, seed, ipc, protocol), cells in frame.groupby(keys, sort=False):
        folder = paths[cells.index[0]].parent
        text = "\n".join(lineage.explain(store.read_spec(folder)))
        what = f"{names[method, seed]}, IPC {ipc}, {protocol}, student {student}"
        yield what, table_layout.accuracy(cells), folder, text
