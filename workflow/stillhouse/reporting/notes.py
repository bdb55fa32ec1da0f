"""Notes below an experiment's tables: labels, accuracies, saturation, costs, images."""

from stillhouse.artifacts import store
from stillhouse.data.class_images import skipped_images
from stillhouse.methods import registry
from stillhouse.reporting import comparisons, costs, table_layout


def accuracy_notes(frame):
    """Return the notes on labels and accuracies, one per protocol and one on all, as sentences."""
    notes = []
    for protocol, cells in frame.groupby("protocol", sort=False):
        first = cells.iloc[0]
        encoding = f" ({first['label_encoding']})" if first["label_encoding"] else ""
        teachers = f" of {first['label_teachers']}" if first["label_teachers"] else ""
        labels = f"{first['labels']} labels{encoding}{teachers}"
        notes.append(f"{protocol}: {labels}; {_reported(cells)}.")
    seeds = frame["seed"].nunique()
    notes.append(
        f"Test accuracy, mean ± standard deviation (n - 1) over {seeds} student seeds of one "
        "distilled set."
        if seeds > 1
        else "Test accuracy of one student seed."
    )
    return notes


def _reported(cells):
    """Return which tests of a protocol's students the reported accuracy is of.

    Their epochs are stated where all students of sets have the same; epochs may depend on the IPC.
    """
    sets = table_layout.of_sets(cells)
    cells = cells if sets.empty else sets
    fewest, most = cells["n_tests"].min(), cells["n_tests"].max()
    if cells["report"].iloc[0] == "last" or most == 1:
        return "after the last epoch"
    epochs = cells[["first_test", "last_test"]].drop_duplicates().to_numpy().tolist()
    when = ", after epochs {} to {}".format(*epochs[0]) if len(epochs) == 1 else ""
    count = str(most) if fewest == most else f"{fewest} to {most}"
    return f"best of {count} tests on the test split{when}"


def divergence_notes(frame):
    """Return a note on the students that diverged and are left out; none without any.

    Their loss or outputs were no longer finite, so that they have no accuracy.
    """
    diverged = frame[frame["accuracy"].isna()]
    cells = [
        f"{method} (distill seed {distill_seed}), IPC {ipc}, {protocol}, {student}: seed "
        f"{', '.join(map(str, seeds))}"
        for (student, method, distill_seed, ipc, protocol), seeds in diverged.groupby(
            table_layout.SET, sort=False
        )["seed"]
    ]
    if not cells:
        return []
    return [
        f"{len(diverged)} of {len(frame)} students diverged and are left out of means, standard "
        f"deviations, times of training and charts ({'; '.join(cells)})."
    ]


def cost_notes(frame):
    """Return the notes on stored bytes and compute time of sets, as sentences."""
    frame = table_layout.of_sets(frame)
    names = costs.device_names(frame["devices"])
    devices = costs.BETWEEN_DEVICES.join(names) or "an unknown device"
    notes = []
    if frame["recognised"].notna().any():
        notes.append(
            "Recognised: share of a set's images, without augmentation, to whose class the "
            "teachers of its soft labels assign the highest probability."
        )
    stored = frame.loc[frame["statistics_bytes"].notna(), "kind"]
    explained = dict.fromkeys(registry.method(kind).statistics_note for kind in stored)
    notes += [note for note in explained if note]
    if any(registry.method(kind).elsewhere for kind in set(frame["kind"])):
        notes.append("Sets that were made elsewhere have no seconds of distillation.")
    if (frame["labels"] == "learned").any():
        notes.append("Bytes of learned labels: 4 per image and class.")
    if frame["labels"].isin(["soft", "online"]).any():
        n_classes = frame["n_classes"].iloc[0]
        bound = costs.soft_label_bits_bound(n_classes)
        notes.append(
            f"A soft label of {n_classes} classes needs at most {bound:,.0f} bits with ideal "
            "entropy coding at a precision of 2^-24 (rate-utility paper, equation A4); a table "
            "stores one per image and epoch."
        )
    return [
        *notes,
        "Bytes of a set: encoded images, or the bitstream of a method that has one, networks "
        "included; the stored soft label table, or log2 K bits per hard label of K classes; none "
        "for online labels, which are not stored. Bits per class: the same storage, divided by "
        "the number of classes.",
        f"Seconds on {devices}: compute time of the full lineage of a set and its labels, as if "
        "computed alone; `train` is one student.",
    ]


def saturation_notes(frame):
    """Return a sentence per student and soft protocol under which no method exceeds a baseline.

    That is: at the largest IPC, no method's difference to the baseline (random images) has its 95 %
    interval above zero, see `comparisons.to_baseline`. One student seed gives no note.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per cell, as `stillhouse.reporting.tables.cell_row` returns them.
    """
    frame = table_layout.of_sets(frame)
    largest = frame[frame["ipc"] == frame["ipc"].max()]
    hard = list(dict.fromkeys(largest.loc[largest["labels"] == "hard", "protocol"]))
    soft = largest[largest["labels"].isin(["soft", "online"])]
    groups = soft.groupby(["student", "protocol"], sort=False)
    sentences = [_saturation(*names, cells, hard) for names, cells in groups]
    return [sentence for sentence in sentences if sentence]


def _saturation(student, protocol, cells, hard):
    """Return the note on one student under one soft protocol, None if it does not saturate."""
    baseline = table_layout.baseline(cells)
    random = cells[cells["method"] == baseline]
    gains = {
        method: comparisons.to_baseline(own, random)
        for (method, kind), own in cells.groupby(["method", "kind"], sort=False)
        if not registry.method(kind).baseline
    }
    if random.empty or not gains:
        return None
    if any(gain is None or not gain.has_interval or gain.is_above for gain in gains.values()):
        return None
    worse = [name for name, gain in gains.items() if gain.is_below]
    finding = f"no method exceeds `{baseline}`" if worse else f"all methods tie with `{baseline}`"
    below = f"; below it: {', '.join(worse)}" if worse else ""
    over = next(iter(gains.values())).over
    remedy = f"; compare under {', '.join(hard)}" if hard else ""
    return (
        f"At IPC {cells['ipc'].iloc[0]}, {protocol}, student {student}: {finding} (95 % intervals "
        f"of the paired differences, over {over}{below}). Soft labels saturate here{remedy}."
    )


def unreadable_notes(indexes):
    """Return a sentence per source on the unreadable images that were skipped.

    Parameters
    ----------
    indexes : list of Path
        ``index.parquet`` of every source with ``on_bad_image: skip``.
    """
    notes = []
    for path in indexes:
        name = store.read_spec(path.parent)["settings"]["name"]
        count = len(skipped_images(store.open_row_groups(path).schema_arrow))
        notes.append(f"Unreadable images of source {name} that were skipped: {count}.")
    return notes


def leak_notes(datasets):
    """Return a sentence per dataset with training images that are test images as well.

    Parameters
    ----------
    datasets : list of Path
        ``dataset.json`` of every dataset of an experiment.
    """
    notes = []
    for path in datasets:
        count = store.read_json(path)["in_both_splits"]
        if count:
            notes.append(
                f"Training images of dataset {path.parent.name} that equal test images: {count}. "
                "Accuracies may be too high."
            )
    return notes


def all_notes(frame, indexes, config="", datasets=()):
    """Return all notes of an experiment.

    `indexes` and `datasets` are as for `unreadable_notes` and `leak_notes`. `config` names the
    files of the config, where known.
    """
    return [
        *accuracy_notes(frame),
        *divergence_notes(frame),
        *saturation_notes(frame),
        *comparisons.score_notes(frame),
        *cost_notes(frame),
        *unreadable_notes(indexes),
        *leak_notes(datasets),
        *([f"Config: {config}."] if config else []),
    ]
