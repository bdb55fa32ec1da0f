"""The overview of a results folder, ``results/report/index.html``: all experiments on one page.

``python -m stillhouse.reporting.page.overview`` writes it for the tables in ``results/``; the
workflow does so at the end of a run.
"""

import sys
from pathlib import Path

from stillhouse.artifacts import formats, store
from stillhouse.artifacts.addresses import RESULTS, TABLES
from stillhouse.errors import StillhouseError, UsageError, command
from stillhouse.reporting import table_layout, tables
from stillhouse.reporting.page import templates

PAGE = RESULTS / "report/index.html"
TEMPLATES = Path(__file__).parents[3] / "report"
TEMPLATE = (TEMPLATES / "overview.html.jinja", TEMPLATES / "page/page.css")
GROUP = ["dataset", "ipc", "labels", "student"]


def overview(inputs, params, outputs):
    """Write the overview of all experiments, which loads nothing from outside.

    Parameters
    ----------
    inputs : dict
        ``template``: the overview's template for Jinja, the style of the pages.
    params : dict
        ``tables``: CSV files of all experiments in the results folder.
    outputs : dict
        ``html``.
    """
    paths = [Path(path) for path in params["tables"]]
    frames, problems = {}, {}
    for path in sorted(paths, key=lambda path: path.stem):
        try:
            frames[path.stem] = tables.read_alone(path)
        except StillhouseError as error:
            problems[path.stem] = str(error)
    parts = {path.suffix: path.read_text() for path in inputs["template"]}
    results = all_results(frames)
    pages = {path.stem: outputs["html"].with_name(f"{path.stem}.html") for path in paths}
    text = templates.rendered(
        parts[".jinja"],
        style=parts[".css"],
        experiments=[_experiment(name, frame) for name, frame in frames.items()],
        pages={name: page.name if page.exists() else "" for name, page in pages.items()},
        problems=problems,
        best=best(results),
        reproduced=reproduced(results),
    )
    formats.save_bytes(outputs["html"], text.encode())


def all_results(frames):
    """Return the rows of `tables.pooled`; datasets of one name in different configs are told apart.

    Parameters
    ----------
    frames : dict of str to pandas.DataFrame
        By experiment, as `stillhouse.reporting.tables.read_alone` returns them.
    """
    results = tables.pooled(frames)
    if results.empty:
        return results
    digests = {name: _dataset_digest(frame) for name, frame in frames.items()}
    identity = results["experiment"].map(digests)
    several = identity.groupby(results["dataset"]).transform("nunique") > 1
    qualified = results["dataset"] + " (" + identity + ")"
    return results.assign(dataset=results["dataset"].where(~several, qualified))


def _dataset_digest(frame):
    """Return the digest of an experiment's dataset; empty if its students were deleted."""
    for folder in frame["artifact"]:
        try:
            return store.read_spec(folder)["upstream"]["images"]["digest"]
        except (store.FileError, KeyError):
            continue
    return ""


def best(results):
    """Return the best sets, a list of dicts: one row per dataset, IPC, kind of labels and student.

    Sets whose accuracies are equal as shown, to one decimal, share a row, in the order of name.
    Full data is no set.
    """
    if results.empty:
        return []
    results, rows = table_layout.of_sets(results), []
    for key, of_group in results.dropna(subset="mean").groupby(GROUP):
        highest = of_group["mean"].round(1).max()
        winners = of_group[of_group["mean"].round(1) == highest].sort_values("name")
        first = winners.iloc[0].to_dict()
        rows.append({**dict(zip(GROUP, key, strict=True)), **first, "winners": _links(winners)})
    return rows


def _links(rows):
    """Return name, experiment and protocol of sets, each name once."""
    return list(rows.drop_duplicates("name")[["name", "experiment", "protocol"]].to_dict("records"))


def reproduced(results):
    """Return the accuracies with a published number, a list of dicts with the ``difference``."""
    if results.empty:
        return []
    rows = results.dropna(subset=["mean", "published"])
    rows = rows.sort_values(["dataset", "name", "ipc", "labels"], kind="stable")
    differences = rows["mean"] - rows["published"].astype(float)
    return rows.assign(difference=differences).to_dict("records")


def _experiment(name, frame):
    """Return what the list of experiments has of one."""
    timings = [timing for folder in frame["artifact"] if (timing := store.read_timing(folder))]
    dates = sorted(timing["finished"][:10] for timing in timings if timing.get("finished"))
    names = {"Markdown": ".md", "CSV": ".csv", "LaTeX": ".tex"}
    files = {title: TABLES / f"{name}{suffix}" for title, suffix in names.items()}
    return {
        "name": name,
        "dataset": frame["dataset"].iloc[0],
        "methods": list(table_layout.of_sets(frame)["method"].unique()),
        "ipc": sorted(frame["ipc"].unique()),
        "labels": list(frame["labels"].unique()),
        "students": list(frame["student"].unique()),
        "cells": len(frame),
        "finished": dates[-1] if dates else "",
        "files": {
            title: f"../tables/{path.name}" for title, path in files.items() if path.exists()
        },
    }


@command
def main(arguments):
    """Write the overview of the results in the working directory; print its path."""
    if arguments:
        raise UsageError("usage: python -m stillhouse.reporting.page.overview")
    paths = sorted(map(str, TABLES.glob("*.csv")))
    if not paths:
        raise StillhouseError(f"{TABLES}: no tables; run the workflow first")
    overview({"template": TEMPLATE}, {"tables": paths}, {"html": PAGE})
    print(PAGE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
