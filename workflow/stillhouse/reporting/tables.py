"""Tables of an experiment: a CSV with one row per cell, Markdown and LaTeX as in a paper."""

from pathlib import Path

import pandas as pd

from stillhouse.artifacts import formats, store
from stillhouse.errors import StillhouseError
from stillhouse.reporting import comparisons, costs, markup, notes, published, table_layout

COLUMNS = """
experiment dataset method fidelity ipc distill_seed teacher labels label_encoding student protocol
seed accuracy accuracy_best accuracy_top5 image_bytes label_bytes seconds_teacher seconds_denoiser
seconds_distill seconds_label seconds_train device published published_std digest recognised
statistics_bytes image_bits_per_class label_bits_per_class artifact diverged report kind hlr ior
lrs ars devices
""".split()  # noqa: SIM905
TEXT_COLUMNS = """
experiment dataset method fidelity teacher labels label_encoding student protocol device digest
artifact report kind devices
""".split()  # noqa: SIM905


def tables(inputs, params, outputs):
    """Write the CSV, the Markdown and the LaTeX tables of one experiment from its cells.

    Parameters
    ----------
    inputs : dict
        ``published`` (CSV files of published numbers), ``signatures`` (their ``signatures.json``)
        ``indexes`` and ``datasets`` (for `notes.all_notes`).
    params : dict
        ``cells``: the identity of each cell; ``artifact`` is its folder, ``report`` selects the
        accuracy that is reported. ``config``: file names of the config, for a note.
    outputs : dict
        ``csv``, ``markdown`` and ``latex``.
    """
    numbers = published.numbers(inputs["published"], inputs["signatures"][0])
    measurements = costs.Measurements()
    rows = [cell_row(identity, numbers, measurements) for identity in params["cells"]]
    frame = comparisons.with_scores(pd.DataFrame(rows))
    text = frame[COLUMNS].to_csv(index=False, lineterminator="\n", float_format="%.4f")
    formats.save_bytes(outputs["csv"], text.encode())
    # Markdown, LaTeX and charts use the rounded numbers of the CSV, so that all agree.
    frame = read(outputs["csv"], params["cells"])
    all_notes = notes.all_notes(frame, inputs["indexes"], params.get("config"), inputs["datasets"])
    markdown = markup.markdown(frame, all_notes)
    formats.save_bytes(outputs["markdown"], markdown.encode())
    latex_notes = [*notes.accuracy_notes(frame), *notes.divergence_notes(frame)]
    latex = markup.latex(frame, latex_notes)
    formats.save_bytes(outputs["latex"], latex.encode())


def read(path, identities):
    """Return the frame of an experiment's cells from its CSV.

    Parameters
    ----------
    path : Path
    identities : list of dict
        The cells, in the order of the CSV, with columns that the CSV lacks.

    Returns
    -------
    pandas.DataFrame
        As of `read_alone`, with those columns.

    Raises
    ------
    StillhouseError
        If another program has changed the file, so that columns, rows or numbers are missing.
    """
    frame = read_alone(path)
    if len(frame) != len(identities):
        raise _changed(path)
    further = {name for identity in identities for name in identity} - set(frame)
    return frame.assign(**{n: [identity[n] for identity in identities] for n in sorted(further)})


def read_alone(path):
    """Return the frame of an experiment's cells from its CSV, whose config is not at hand.

    Parameters
    ----------
    path : Path

    Returns
    -------
    pandas.DataFrame
        Rows of `cell_row`, with accuracies to four decimals. Diverged students have no accuracies
        and no ``seconds_train``, since they ended early.

    Raises
    ------
    StillhouseError
        If columns or numbers are missing: an earlier version or another program wrote the file.
    """
    texts = dict.fromkeys(TEXT_COLUMNS, str)
    numbers = {name: [""] for name in COLUMNS if name not in TEXT_COLUMNS}
    try:
        frame = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=numbers)
    except ValueError:  # of pandas: empty, torn or in another encoding
        frame = pd.DataFrame()
    complete = set(COLUMNS) <= set(frame)
    if not complete or any(frame[name].dtype.kind not in "bif" for name in numbers):
        raise _changed(path)
    frame.loc[frame["accuracy"].isna(), "seconds_train"] = float("nan")
    return frame


def pooled(frames):
    """Return every accuracy of several experiments: a row per distilled set, protocol and student.

    Seeds of the same students are pooled over the experiments; those that several share count once.

    Parameters
    ----------
    frames : dict of str to pandas.DataFrame
        By experiment, as `read_alone` returns them.

    Returns
    -------
    pandas.DataFrame
        Columns of the tables, of the first seed. Beside them ``name`` of the method; ``mean`` and
        ``std`` of the reported accuracy [%] over ``n`` students, without the ``n_diverged`` others;
        ``n_bytes`` of images and labels; ``seconds`` of the full lineage with one student.
    """
    if not frames:
        return pd.DataFrame()
    rows = pd.concat(
        [_named(frame, experiment) for experiment, frame in frames.items()], ignore_index=True
    ).drop_duplicates(["artifact", "report"])
    students = rows.groupby(["students", "report"], sort=False)
    numbers = students.agg(
        mean=("reported", "mean"),
        std=("reported", "std"),
        n=("reported", "count"),
        published=("published", "first"),
        published_std=("published_std", "first"),
        seconds_train=("seconds_train", "mean"),
        seconds=("seconds", "mean"),
        seeds=("seed", "size"),
    ).reset_index()
    first = students.head(1).reset_index(drop=True)
    shared = [name for name in numbers if name in first]
    n_diverged = numbers["seeds"] - numbers["n"]
    return first.drop(columns=shared).join(numbers).assign(n_diverged=n_diverged)


def _named(frame, experiment):
    """Return rows with the experiment, the name of the method, and numbers for `pooled`."""
    names = table_layout.set_names(frame)
    pairs = zip(frame["method"], frame["distill_seed"], strict=True)
    return table_layout.with_totals(frame).assign(
        experiment=experiment,
        name=[names[pair] for pair in pairs],
        students=[str(Path(folder).parent) for folder in frame["artifact"]],
    )


def _changed(path):
    return StillhouseError(
        f"{path}: was changed after it was written, or is of an earlier version; delete it and "
        "rerun, which writes it again"
    )


def cell_row(identity, numbers, measurements):
    """Return one row of the CSV as a dict, from a cell's artifact and its lineage.

    Parameters
    ----------
    identity : dict
        With the cell's folder as ``artifact``.
    numbers : dict
        The published ones, as `published.numbers` returns them.
    measurements : costs.Measurements

    Raises
    ------
    StillhouseError
        If the student diverged and its protocol has ``on_divergence: error``.
    """
    folder = Path(identity["artifact"])
    cell, spec = store.read_json(folder / "cell.json"), store.read_spec(folder)
    diverged = cell.get("diverged", False)
    if diverged and identity["on_divergence"] != "mark":
        raise StillhouseError(
            f"protocols.{identity['protocol']}.on_divergence: error conflicts with {folder}, a "
            "student that diverged; set mark to leave it out of means, or lower the learning_rate"
        )
    accuracy, deviation = published.beside(numbers, identity, spec)
    return {
        **identity,
        **{name: cell[name] for name in ("accuracy", "accuracy_best", "accuracy_top5")},
        **measurements.columns(spec),
        "published": accuracy,
        "published_std": deviation,
        "digest": spec["digest"],
        "diverged": diverged,
    }
