"""The page of an experiment: one HTML file with everything in it, for a browser."""

import re

import pandas as pd

from stillhouse.artifacts import formats, store
from stillhouse.artifacts.stages import load_function
from stillhouse.data.codecs import open_image
from stillhouse.reporting import lineage, notes, plotting, table_layout, tables
from stillhouse.reporting.page import drawing, leaderboards, matrix, panels, run_card, templates

PIXELS_PER_POINT = 4 / 3
# Tables of further columns: title, groups of columns.
DETAILS = {
    "Accuracy": ("set", "accuracy", "teacher"),
    "Scores": ("set", "scores"),
    "Storage": ("set", "bytes", "bits"),
    "Time": ("set", "seconds"),
}


def page(inputs, params, outputs):
    """Write the page of one experiment, which loads nothing from outside.

    Parameters
    ----------
    inputs : dict
        ``csv``, ``markdown``, ``latex``: the tables; ``sets``: ``images.parquet`` of distilled
        sets; ``pictures``: figures of methods; ``numbers``: a CSV of
        `latent_space.latent_space_figure` for each picture of the same name; ``indexes`` and
        ``datasets``: as for `notes.all_notes`; ``captions``: text files; ``template``: the page's
        template for Jinja, style and script.
    params : dict
        ``cells``: the identity of each cell, in the order of the table. ``sets``: ``method``,
        ``ipc`` and ``distill_seed`` of each set. ``pictures``: ``title``, ``caption`` (the name of
        a text file), ``methods`` and ``distill_seed`` of each picture. ``teachers``: names in the
        config of each teacher, by its folder. ``config``: file names of the config.
    outputs : dict
        ``html``.
    """
    frame = tables.read(inputs["csv"][0], params["cells"])
    sets = table_layout.of_sets(frame)
    experiment, config = frame["experiment"].iloc[0], params.get("config", "")
    captions = {path.stem: " ".join(path.read_text().split()) for path in inputs["captions"]}
    names = {
        path.stem: _method_names(frame, picture)
        for picture, path in zip(params["pictures"], inputs["pictures"], strict=True)
    }
    banners = notes.saturation_notes(frame)
    all_notes = notes.all_notes(frame, inputs["indexes"], config, inputs["datasets"])
    parts = {path.suffix: path.read_text() for path in inputs["template"]}
    text = templates.rendered(
        parts[".jinja"],
        forest=drawing.forest,
        groups=table_layout.groups,
        score_text=table_layout.score_text,
        experiment=experiment,
        dataset=frame["dataset"].iloc[0],
        style=parts[".css"],
        script=parts[".js"],
        colours=plotting.COLOURS,
        styles=panels.styles(sets),
        choices=_choices(sets),
        boards=leaderboards.boards(frame),
        banners=banners,
        notes=[note for note in all_notes if note not in banners],
        details=_details(frame),
        run_card=run_card.run_card(frame, config, params["teachers"]),
        downloads=run_card.downloads(inputs, frame),
        accuracy_panels=panels.accuracy_panels(sets),
        curve_panels=panels.curve_panels(sets),
        cost_panels=panels.cost_panels(sets),
        parts=list(table_layout.costs(sets)),
        matrices=matrix.matrices(sets, params["sets"], inputs["sets"]),
        captions=captions,
        pictures=_pictures(params["pictures"], inputs["pictures"], names, captions),
        number_tables=_number_tables(params["pictures"], inputs, names),
        costs=table_layout.cost_columns(sets),
        lineages=_lineages(frame),
    )
    formats.save_bytes(outputs["html"], text.encode())


def _choices(frame):
    """Return (heading, attribute, values) of what a reader can choose among."""
    columns = {"IPC": "ipc", "labels": "protocol", "student": "student"}
    choices = [(heading, name, list(frame[name].unique())) for heading, name in columns.items()]
    return [choice for choice in choices if len(choice[2]) > 1]


def _details(frame):
    """Yield (title, columns) of the tables of further columns, per student."""
    for section in table_layout.sections(frame):
        for title, groups in DETAILS.items():
            columns = [column for column in section.columns if column.group in groups]
            if any(column.group != "set" for column in columns):
                yield f"{title}: {section.dataset}, student {section.student}", columns


def _number_tables(pictures, inputs, names):
    """Return the tables of the figures' CSV files, one per function that lays them out."""
    files = {path.stem: path for path in inputs["numbers"]}
    frames = {}
    for picture, path in zip(pictures, inputs["pictures"], strict=True):
        if picture["numbers"]:
            frame = pd.read_csv(files[path.stem])
            frames.setdefault(picture["numbers"], []).append((names[path.stem], frame))
    return [load_function(function)(tables) for function, tables in frames.items()]


def _svg(path):
    """Return address and width [px] of an SVG file."""
    data = path.read_bytes()
    width = float(re.search(rb'width="([\d.]+)pt"', data)[1]) * PIXELS_PER_POINT
    return {"uri": drawing.data_uri(data, "image/svg+xml"), "width": width}


def _png(path):
    """Return address and width [px] of a PNG file."""
    data = path.read_bytes()
    return {"uri": drawing.data_uri(data, "image/png"), "width": open_image(data).width}


def _pictures(pictures, paths, names, captions):
    """Return title, caption, address and width [px] of every picture, grouped by title."""
    by_title = {}
    for picture, path in zip(pictures, paths, strict=True):
        image = _svg(path) if path.suffix == ".svg" else _png(path)
        title = f"{picture['title']}: {names[path.stem]}"
        by_title.setdefault(picture["title"], []).append(
            {
                **image,
                "title": title,
                "caption": captions[picture["caption"]],
                "methods": picture["methods"],
            }
        )
    return [picture for of_title in by_title.values() for picture in of_title]


def _method_names(frame, picture):
    """Return the names of the methods that share a picture."""
    names = table_layout.set_names(frame)
    return ", ".join(names[method, picture["distill_seed"]] for method in picture["methods"])


def _lineages(frame):
    """Return {key of a leaderboard's row: id, method, name, accuracy and lineage of a student}."""
    names, lineages = table_layout.set_names(frame), {}
    for key, cells in frame.groupby(table_layout.SET, sort=False):
        student, method, seed, ipc, protocol = key
        folder, ipc_text = cells["artifact"].iloc[0], table_layout.ipc_text(cells)
        same = [one for one in lineages.values() if one["folder"] == folder]
        lineages[key] = next(iter(same), None) or {
            "id": f"lineage-{len(lineages) + 1}",
            "folder": folder,
            "method": method,
            "name": f"{names[method, seed]}, IPC {ipc_text}, {protocol}, student {student}",
            "accuracy": table_layout.accuracy(cells),
            "text": "\n".join(lineage.explain(store.read_spec(folder))),
            "data": {"ipc": ipc, "protocol": protocol, "student": student},
        }
    return lineages
