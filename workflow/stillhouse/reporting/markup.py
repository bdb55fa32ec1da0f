"""Tables of an experiment as Markdown and LaTeX."""

import pandas as pd

from stillhouse.artifacts.addresses import slug
from stillhouse.reporting.table_layout import sections

LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "–": "--",
    }
)


def markdown(frame, notes):
    """Return the tables of one experiment as Markdown, followed by its notes.

    `frame` as for `sections`; `notes` as sentences.
    """
    lines = [f"# {frame['experiment'].iloc[0]}", ""]
    for section in sections(frame):
        lines += [f"## {section.dataset}, student {section.student}", ""]
        lines += [*_markdown_table(section.only()), ""]
    return "\n".join(lines + [f"- {note}" for note in notes])


def _markdown_table(rows):
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [[c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in rows]
    padded.insert(1, ["-" * w for w in widths])
    return [f"| {' | '.join(row)} |" for row in padded]


def latex(frame, notes):
    """Return the accuracies of one experiment as LaTeX tables, with its notes in their captions.

    `frame` and `notes` as for `markdown`.
    """
    tables = [_latex_table(section, frame, notes) for section in sections(frame)]
    return "\n".join([r"% Needs \usepackage{booktabs}.", *tables])


def _latex_table(section, frame, notes):
    experiment = frame["experiment"].iloc[0]
    header, *rows = [[escaped(text) for text in row] for row in section.only("set", "accuracy")]
    title = f"{experiment}: {section.dataset}, student {section.student}."
    table = pd.DataFrame(rows, columns=header)
    return table.style.hide(axis="index").to_latex(
        hrules=True,
        column_format=f"lr{'l' * (len(header) - 2)}",
        position_float="centering",
        caption=escaped(" ".join([title, *notes])),
        label=f"tab:{slug(experiment, section.dataset, section.student)}",
    )


def escaped(text):
    """Return a text with all characters escaped that LaTeX interprets."""
    return text.translate(LATEX)
