"""Finished cells as TensorBoard event files: learning curves, settings, accuracies, costs."""

from pathlib import Path

from stillhouse.artifacts import store
from stillhouse.artifacts.addresses import TABLES
from stillhouse.errors import StillhouseError
from stillhouse.export import folders
from stillhouse.reporting import lineage, tables

# Settings by which TensorBoard compares runs, and metrics: columns of a table.
SETTINGS = """
experiment dataset method fidelity ipc distill_seed teacher labels label_encoding student protocol
seed report
""".split()  # noqa: SIM905
METRICS = """
accuracy accuracy_best accuracy_top5 image_bytes label_bytes seconds_teacher seconds_denoiser
seconds_distill seconds_label seconds_train
""".split()  # noqa: SIM905


def export_cells(folder):
    """Write an event file per cell of all tables in ``results/``; return a line of the content.

    Parameters
    ----------
    folder : str or Path
        See `stillhouse.export.folders.written`.

    Raises
    ------
    StillhouseError
        If TensorBoard is not installed, or there are no tables.
    """
    open_writer, n_cells = writer_class(), 0
    paths = sorted(TABLES.glob("*.csv"))
    if not paths:
        raise StillhouseError(f"{TABLES}: no tables; run the workflow first")
    with folders.written(folder) as temporary:
        for path in paths:
            for row in tables.read_alone(path).to_dict("records"):
                with open_writer(temporary / run_name(row)) as writer:
                    write_cell(writer, row)
                n_cells += 1
    return f"{folder}: {n_cells} cells; tensorboard --logdir {folder}"


def writer_class():
    """Return ``torch.utils.tensorboard.SummaryWriter``; raise if its library is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise StillhouseError(
            "tensorboard: missing library; install it with: pip install tensorboard"
        ) from None
    return SummaryWriter


def run_name(row):
    """Return the path of a cell's run: experiment, distilled set, student with its seed."""
    distilled = f"{row['method']}-ipc{row['ipc']}-seed{row['distill_seed']}"
    student = f"{row['student']}-{row['protocol']}-seed{row['seed']}"
    return f"{row['experiment']}/{distilled}/{student}"


def write_cell(writer, row):
    """Pass the curve, the lineage, the settings and the metrics of a cell to a writer.

    Parameters
    ----------
    writer : torch.utils.tensorboard.SummaryWriter
    row : dict
        Of `stillhouse.reporting.tables.read_alone`.
    """
    folder = Path(row["artifact"])
    for point in store.read_json(folder / "cell.json")["curve"]:
        for name, value in point.items():
            if name != "epoch" and value is not None:
                writer.add_scalar(name, value, point["epoch"])
    lines = lineage.explain(store.read_spec(folder))
    writer.add_text("lineage", "\n".join(f"    {line}" for line in lines))
    # Not a number: an unknown time or a diverged student.
    metrics = {f"cell/{name}": row[name] for name in METRICS if row[name] == row[name]}
    writer.add_hparams({name: row[name] for name in SETTINGS}, metrics, run_name=".")
