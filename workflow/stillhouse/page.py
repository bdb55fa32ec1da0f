"""The page of an experiment: one HTML file with everything in it, for a browser."""

import base64
import io
import re

from PIL import Image

from stillhouse import artifacts, explain, layout, tables

CHARTS = {
    "accuracy": "Accuracy against images per class",
    "bytes": "Accuracy against bytes",
    "curves": "Learning curves",
    "cost": "Seconds a number costs",
}
POINT = 4 / 3  # pixels


def page(inputs, params, outputs):
    """Write the page of one experiment; it asks for nothing outside itself.

    Parameters
    ----------
    inputs : dict
        ``csv``, ``accuracy``, ``bytes``, ``curves``, ``cost``: table and charts; ``sheets``:
        contact sheets; ``cells``: ``cell.json`` files; ``indexes``: as `stillhouse.tables.left_out`
        takes them; ``captions``: a text named after each chart; ``template``: for Jinja.
    params : dict
        ``cells``: the identity of each cell, in the order of the table. ``sheets``: ``method``,
        ``ipc`` and ``distill_seed`` of each sheet.
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
        groups=layout.groups,
        sections=layout.sections(frame),
        notes=[
            *layout.accuracy_notes(frame),
            *layout.cost_notes(frame),
            *tables.left_out(inputs["indexes"]),
        ],
        charts={name: _chart(name, captions[name], inputs[name][0]) for name in CHARTS},
        sheets=_sheets(frame, params["sheets"], inputs["sheets"]),
        costs=layout.cost_columns(frame),
        lineages=list(_lineages(frame, inputs["cells"])),
    )
    artifacts.save_bytes(outputs["html"], text.encode())


def _chart(name, caption, path):
    """Return title, caption, address and width [px] of a chart."""
    data = path.read_bytes()
    width = float(re.search(rb'width="([\d.]+)pt"', data)[1]) * POINT
    return {"title": CHARTS[name], "caption": caption, "width": width, "uri": _uri(data, "svg+xml")}


def _sheets(frame, identities, paths):
    """Return {IPC: sheets}, each with its name, address and width [px]."""
    names, found = layout.set_names(frame), {}
    for sheet, path in zip(identities, paths, strict=True):
        data = path.read_bytes()
        width = Image.open(io.BytesIO(data)).width
        name = names[sheet["method"], sheet["distill_seed"]]
        entry = {"name": name, "width": width, "uri": _uri(data, "png")}
        found.setdefault(sheet["ipc"], []).append(entry)
    return found


def _uri(data, kind):
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _lineages(frame, paths):
    """Yield (what, accuracy, folder, text) of every number, told for the first of its students."""
    names = layout.set_names(frame)
    keys = ["student", "method", "distill_seed", "ipc", "protocol"]
    for (student, method, seed, ipc, protocol), cells in frame.groupby(keys, sort=False):
        folder = paths[cells.index[0]].parent
        text = "\n".join(explain.explain(artifacts.read_spec(folder)))
        what = f"{names[method, seed]}, IPC {ipc}, {protocol}, student {student}"
        yield what, layout.accuracy(cells), folder, text
