"""Tables of accuracies as LaTeX."""

from stillhouse.artifacts.addresses import label
from stillhouse.reporting.table_layout import accuracy_notes, sections

LATEX = {
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


def latex(frame):
    """Return the accuracies of one experiment as LaTeX tables; `frame` as for `sections`."""
    lines = [r"% Needs \usepackage{booktabs}."]
    for section in sections(frame):
        lines += ["", *_latex_table(section, frame)]
    return "\n".join(lines) + "\n"


def _latex_table(section, frame):
    experiment = frame["experiment"].iloc[0]
    title = f"{experiment}: {section.dataset}, student {section.student}."
    header, *rows = section.only("set", "accuracy")
    return [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escaped(' '.join([title, *accuracy_notes(frame)]))}}}",
        rf"  \label{{tab:{label(experiment, section.dataset, section.student)}}}",
        rf"  \begin{{tabular}}{{lr{'l' * (len(header) - 2)}}}",
        r"    \toprule",
        f"    {_latex_row(header)}",
        r"    \midrule",
        *(f"    {_latex_row(row)}" for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]


def _latex_row(texts):
    return " & ".join(map(escaped, texts)) + r" \\"


def escaped(text):
    """Return a text as LaTeX prints it."""
    return "".join(LATEX.get(character, character) for character in text)
