"""HTML report of an experiment: one file with everything in it, for a browser."""

import base64
import io
import re

import pandas as pd
from PIL import Image

from stillhouse.artifacts import formats, store
from stillhouse.artifacts.stages import load_function
from stillhouse.reporting import lineage, notes, table_layout, tables

CHARTS = {
    "accuracy": "Accuracy against images per class",
    "rates": "Accuracy against bits per class",
    "curves": "Learning curves",
    "cost": "Compute time",
}
PIXELS_PER_POINT = 4 / 3


def page(inputs, params, outputs):
    """Write the page of one experiment, which loads nothing from outside.

    Parameters
    ----------
    inputs : dict
        ``csv``, ``accuracy``, ``rates``, ``curves``, ``cost``: table and charts; ``sheets``:
        contact sheets; ``pictures``: figures of methods; ``numbers``: a CSV of
        `latent_space.latent_space_figure` for each picture of the same name; ``indexes`` and
        ``datasets``: as for `notes.all_notes`; ``captions``: text files; ``template``: for Jinja.
    params : dict
        ``cells``: the identity of each cell, in the order of the table. ``sheets``: ``method``,
        ``ipc`` and ``distill_seed`` of each sheet. ``pictures``: ``title``, ``caption`` (the name
        of a text file), ``methods`` and ``distill_seed`` of each picture.
    outputs : dict
        ``html``.
    """
    import jinja2

    frame = tables.read(inputs["csv"][0], params["cells"])
    captions = {path.stem: " ".join(path.read_text().split()) for path in inputs["captions"]}
    names = {
        path.stem: _method_names(frame, picture)
        for picture, path in zip(params["pictures"], inputs["pictures"], strict=True)
    }
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.from_string(inputs["template"][0].read_text()).render(
        experiment=frame["experiment"].iloc[0],
        dataset=frame["dataset"].iloc[0],
        groups=table_layout.groups,
        sections=table_layout.sections(frame),
        notes=notes.all_notes(frame, inputs["indexes"], params.get("config"), inputs["datasets"]),
        charts={name: _chart(name, captions[name], inputs[name][0]) for name in CHARTS},
        sheets=_sheets(frame, params["sheets"], inputs["sheets"]),
        pictures=_pictures(params["pictures"], inputs["pictures"], names, captions),
        number_tables=_number_tables(params["pictures"], inputs, names),
        costs=table_layout.cost_columns(frame),
        lineages=list(_lineages(frame)),
    )
    formats.save_bytes(outputs["html"], text.encode())


def _number_tables(pictures, inputs, names):
    """Return the tables of the figures' CSV files, one per function that lays them out."""
    files = {path.stem: path for path in inputs["numbers"]}
    frames = {}
    for picture, path in zip(pictures, inputs["pictures"], strict=True):
        if picture["numbers"]:
            frame = pd.read_csv(files[path.stem])
            frames.setdefault(picture["numbers"], []).append((names[path.stem], frame))
    return [load_function(function)(tables) for function, tables in frames.items()]


def _chart(name, caption, path):
    """Return title, caption, address and width [px] of a chart."""
    return {"title": CHARTS[name], "caption": caption, **_svg(path)}


def _svg(path):
    """Return address and width [px] of an SVG file."""
    data = path.read_bytes()
    width = float(re.search(rb'width="([\d.]+)pt"', data)[1]) * PIXELS_PER_POINT
    return {"uri": _uri(data, "svg+xml"), "width": width}


def _png(path):
    """Return address and width [px] of a PNG file."""
    data = path.read_bytes()
    return {"uri": _uri(data, "png"), "width": Image.open(io.BytesIO(data)).width}


def _pictures(pictures, paths, names, captions):
    """Return title, caption, address and width [px] of every picture, grouped by title."""
    by_title = {}
    for picture, path in zip(pictures, paths, strict=True):
        image = _svg(path) if path.suffix == ".svg" else _png(path)
        title = f"{picture['title']}: {names[path.stem]}"
        by_title.setdefault(picture["title"], []).append(
            {"title": title, "caption": captions[picture["caption"]], **image}
        )
    return [picture for of_title in by_title.values() for picture in of_title]


def _method_names(frame, picture):
    """Return the names of the methods that share a picture."""
    names = table_layout.set_names(frame)
    return ", ".join(names[method, picture["distill_seed"]] for method in picture["methods"])


def _sheets(frame, identities, paths):
    """Return {IPC: sheets}, each with its name, address and width [px]."""
    names, sheets = table_layout.set_names(frame), {}
    for sheet, path in zip(identities, paths, strict=True):
        name = names[sheet["method"], sheet["distill_seed"]]
        sheets.setdefault(sheet["ipc"], []).append({"name": name, **_png(path)})
    return sheets


def _uri(data, kind):
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _lineages(frame):
    """Yield (name, accuracy, lineage) of every reported accuracy, that of its first student."""
    names = table_layout.set_names(frame)
    keys = ["student", "method", "distill_seed", "ipc", "protocol"]
    for (student, method, seed, ipc, protocol), cells in frame.groupby(keys, sort=False):
        spec = store.read_spec(cells["artifact"].iloc[0])
        name = f"{names[method, seed]}, IPC {ipc}, {protocol}, student {student}"
        yield name, table_layout.accuracy(cells), "\n".join(lineage.explain(spec))
