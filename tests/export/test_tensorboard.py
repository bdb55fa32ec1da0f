"""Cells as TensorBoard files: what a writer is given, and the files of the real library."""

import sys
from pathlib import Path

import pytest
from stillhouse.artifacts import store
from stillhouse.errors import StillhouseError
from stillhouse.export import tensorboard
from stillhouse.reporting import tables


class Writer:
    """Records what it is given, by the folder of its run."""

    runs = {}  # noqa: RUF012

    def __init__(self, folder):
        Path(folder).mkdir(parents=True)
        (Path(folder) / "events").write_text("")
        self.run = self.runs.setdefault("/".join(Path(folder).parts[-3:]), {"scalars": []})

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.run["closed"] = error == (None, None, None)

    def add_scalar(self, tag, value, step):
        self.run["scalars"].append((tag, value, step))

    def add_text(self, tag, text):
        self.run[tag] = text

    def add_hparams(self, settings, metrics, run_name):
        assert run_name == "."
        self.run |= {"settings": settings, "metrics": metrics}


@pytest.fixture
def runs(results, monkeypatch, tmp_path):
    """Export the cells to the recording writer; return what it was given."""
    monkeypatch.setattr(tensorboard, "writer_class", lambda: Writer)
    monkeypatch.setattr(Writer, "runs", {})
    tensorboard.export_cells(tmp_path / "out")
    return Writer.runs


def test_every_cell_is_a_run_with_its_curve_settings_and_metrics(runs):
    rows = [
        row
        for path in sorted(Path("results/tables").glob("*.csv"))
        for row in tables.read_alone(path).to_dict("records")
    ]
    assert len(runs) == len(rows) == 12 + 6 + 2 + 1
    for row in rows:
        run = runs[tensorboard.run_name(row)]
        curve = store.read_json(Path(row["artifact"]) / "cell.json")["curve"]
        assert [(v, s) for tag, v, s in run["scalars"] if tag == "loss"] == [
            (point["loss"], point["epoch"]) for point in curve
        ]
        assert ("accuracy", curve[-1]["accuracy"], curve[-1]["epoch"]) in run["scalars"]
        assert run["settings"]["method"] == row["method"]
        assert run["settings"]["protocol"] == row["protocol"]
        assert run["metrics"]["cell/accuracy"] == pytest.approx(row["accuracy"])
        assert row["artifact"] in run["lineage"]
        assert run["closed"]


def test_unknown_numbers_are_left_out(runs):
    metrics = {number for run in runs.values() for number in run["metrics"].values()}
    assert all(number == number for number in metrics)


def test_a_missing_library_is_one_line_with_the_command(monkeypatch, in_tiny_results, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(StillhouseError, match=r"missing library; install it with: pip install "):
        tensorboard.export_cells(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_real_library_reads_back_what_was_written(results, tmp_path):
    """`tensorboard` is no dependency: where it is missing, the test of the calls stands alone."""
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tensorboard.export_cells(tmp_path / "out")
    row = tables.read_alone(Path("results/tables/one.csv")).iloc[0].to_dict()
    events = reading.EventAccumulator(str(tmp_path / "out" / tensorboard.run_name(row))).Reload()
    curve = store.read_json(Path(row["artifact"]) / "cell.json")["curve"]
    read = [(one.step, one.value) for one in events.Scalars("loss")]
    assert read == [(point["epoch"], pytest.approx(point["loss"])) for point in curve]
    (accuracy,) = events.Scalars("cell/accuracy")
    assert accuracy.value == pytest.approx(row["accuracy"])
