"""Where soft labels leave methods nothing to be told apart by, said as a sentence."""

from stillhouse.reporting.table_layout import reported


def notes(frame):
    """Return a sentence for every student and soft protocol that no method gains anything under.

    At the largest IPC, where no method's mean accuracy is above that of random images by more than
    the standard deviations (n - 1) of both together. Nothing is said of a single student seed.

    Parameters
    ----------
    frame : pandas.DataFrame
        A row a cell, as `stillhouse.reporting.tables.cell_row` makes them.
    """
    largest = frame[frame["ipc"] == frame["ipc"].max()]
    largest = largest.assign(shown=reported(largest))
    hard = list(dict.fromkeys(largest.loc[largest["labels"] == "hard", "protocol"]))
    soft = largest[largest["labels"] != "hard"]
    keys = ["student", "protocol"]
    said = [_sentence(*names, cells, hard) for names, cells in soft.groupby(keys, sort=False)]
    return [sentence for sentence in said if sentence]


def _sentence(student, protocol, cells, hard):
    """Return what there is to say of one student under one soft protocol, or None."""
    scores = cells.groupby(["kind", "method"], sort=False)["shown"].agg(["mean", "std"])
    kinds = scores.index.get_level_values("kind")
    chance, others = scores[kinds == "random"], scores[kinds != "random"]
    if chance.empty or others.empty or scores["std"].isna().any():
        return None
    base = chance.iloc[0]
    gains, room = others["mean"] - base["mean"], others["std"] + base["std"]
    if (gains > room).any():
        return None
    name = chance.index[0][1]
    behind = [method for (_, method), below in (gains < -room).items() if below]
    within = f"no method {'beats' if behind else 'differs from'} `{name}` by more than"
    rest = f" ({', '.join(behind)}: below it by more)" if behind else ""
    where = f"At IPC {cells['ipc'].iloc[0]}, {protocol}, student {student}"
    look = f"; compare under {', '.join(hard)}" if hard else ""
    return (
        f"{where}: {within} their standard deviations together{rest}. "
        f"Soft labels saturate there{look}."
    )
