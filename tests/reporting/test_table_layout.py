import math
import re

import pandas as pd
import pytest
from stillhouse.reporting import markup, notes, table_layout

from tests.reporting.fakes import frame


def markdown(rows):
    return markup.markdown(rows, notes.all_notes(rows, []))


def latex(rows):
    return markup.latex(rows, notes.accuracy_notes(rows))


def test_markdown_has_the_last_or_the_best_accuracy():
    # By hand: mean 62, deviations -2, -1, 3, √(14 / 2); mean 63, deviations -1, -2, 3, √(14 / 2).
    assert "| 62.0 ± 2.6 " in markdown(frame())
    assert "after the last epoch" in markdown(frame())
    best = markdown(frame(report="best"))
    assert "| 63.0 ± 2.6 " in best
    assert "best of 6 tests on the test split" in best


def test_markdown_of_one_seed_has_no_deviation():
    text = markdown(frame()[:1])
    assert "| 60.0 " in text
    assert "± " not in text.split("\n- ")[0]
    assert "one student seed" in text


def test_markdown_distinguishes_distilled_sets():
    both = pd.concat([frame(), frame(distill_seed=1)])
    lines = [line for line in markdown(both).splitlines() if "± 2.6" in line]
    assert [line.split("|")[1].strip() for line in lines] == ["rded (seed 0)", "rded (seed 1)"]


def test_markdown_counts_bytes_bits_and_seconds():
    (line,) = (line for line in markdown(frame()).splitlines() if "± 2.6" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[3:] == ["12.3", "678.9", "9.9", "543.1", "3.0", "4.0", "5.0", "6.0"]


def two_sections():
    """Return rows of two students: two sets under two protocols, and one number alone."""
    hard = {
        "protocol": "hard",
        "labels": "hard",
        "label_encoding": "",
        "label_teachers": "",
        "label_bytes": 42,
        "label_bits_per_class": 33.219,
        "seconds_teacher": 0.0,
        "seconds_label": 0.0,
        "published": 55.25,
        "report": "best",
    }
    return pd.concat(
        [
            frame(method="random", ipc=1, seconds_distill=None),
            frame(method="random", ipc=1, **hard),
            frame(published=99.5),
            frame(**hard),
            frame(student="t_1", published=70.0)[:1],
        ],
        ignore_index=True,
    )


MARKDOWN = """\
# e

## d, student s

| method | IPC | soft [%]                    | hard [%]                    | images [kB] | labels, soft [kB] | labels, hard [kB] | images [kbit per class] | labels, soft [kbit per class] | labels, hard [kbit per class] | teacher [s] | distil [s] | label, soft [s] | train, soft [s] | train, hard [s] |
| ------ | --- | --------------------------- | --------------------------- | ----------- | ----------------- | ----------------- | ----------------------- | ----------------------------- | ----------------------------- | ----------- | ---------- | --------------- | --------------- | --------------- |
| random | 1   | 62.0 ± 2.6                  | 63.0 ± 2.6 (published 55.2) | 12.3        | 678.9             | 0.042             | 9.9                     | 543.1                         | 0.0332                        | 3.0         | –          | 5.0             | 6.0             | 6.0             |
| rded   | 10  | 62.0 ± 2.6 (published 99.5) | 63.0 ± 2.6 (published 55.2) | 12.3        | 678.9             | 0.042             | 9.9                     | 543.1                         | 0.0332                        | 3.0         | 4.0        | 5.0             | 6.0             | 6.0             |

## d, student t_1

| method | IPC | soft [%]              | images [kB] | labels, soft [kB] | images [kbit per class] | labels, soft [kbit per class] | teacher [s] | distil [s] | label, soft [s] | train, soft [s] |
| ------ | --- | --------------------- | ----------- | ----------------- | ----------------------- | ----------------------------- | ----------- | ---------- | --------------- | --------------- |
| rded   | 10  | 60.0 (published 70.0) | 12.3        | 678.9             | 9.9                     | 543.1                         | 3.0         | 4.0        | 5.0             | 6.0             |

- soft: soft labels (float16) of t; after the last epoch.
- hard: hard labels; best of 6 tests on the test split, after epochs 250 to 300.
- Test accuracy, mean ± standard deviation (n - 1) over 3 student seeds of one distilled set.
- A soft label of 10 classes needs at most 198 bits with ideal entropy coding at a precision of 2^-24 (rate-utility paper, equation A4); a table stores one per image and epoch.
- Bytes of a set: encoded images, or the bitstream of a method that has one, networks included; the stored soft label table, or log2 K bits per hard label of K classes; none for online labels, which are not stored. Bits per class: the same storage, divided by the number of classes.
- Seconds on abacus: compute time of the full lineage of a set and its labels, as if computed alone; `train` is one student."""  # noqa: E501


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0.0, "0"),
        (33.219, "0.0332"),
        (999.9, "1"),
        (3_496.0, "3.5"),
        (106_496.0, "106.5"),
        (123_456_789.0, "123456.8"),
        (math.nan, "–"),
    ],
)
def test_small_amounts_have_three_digits_and_all_are_plain_numbers(amount, text):
    row = row_of(markdown(frame(image_bits_per_class=amount, image_bytes=amount)), "rded")
    assert row["images [kbit per class]"] == row["images [kB]"] == text


def test_missing_bytes_are_a_dash():
    (line,) = [
        line
        for line in markdown(frame(label_bytes=math.nan)[:1]).splitlines()
        if line.startswith("| random") or line.startswith("| rded")
    ]
    assert "–" in [cell.strip() for cell in line.split("|")]


def row_of(text, method):
    """Return {heading: cell} of a method's row."""
    header, _, *rows = [line for line in text.splitlines() if line.startswith("|")]

    def split(line):
        return [cell.strip() for cell in line.strip("|").split("|")]

    return next(
        dict(zip(split(header), split(row), strict=True))
        for row in rows
        if row.startswith(f"| {method} ")
    )


def test_denoiser_and_statistics_have_columns_if_any_method_has_them():
    d3hr = {"method": "d3hr", "kind": "d3hr"}
    made = frame(**d3hr, seconds_denoiser=70.0, statistics_bytes=1_234_500)
    both = pd.concat([frame(), made], ignore_index=True)
    text = markdown(both)
    found, other = row_of(text, "d3hr"), row_of(text, "rded")
    assert (found["denoiser [s]"], other["denoiser [s]"]) == ("70.0", "0.0")
    assert (found["statistics [kB]"], other["statistics [kB]"]) == ("1234.5", "–")
    assert "- Statistics: mean and variance per class" in text
    headings = list(found)
    assert headings[headings.index("teacher [s]") + 1] == "denoiser [s]"
    plain = markdown(frame())
    assert not {"denoiser [s]", "statistics [kB]"} & row_of(plain, "rded").keys()
    assert "Statistics" not in plain


@pytest.mark.parametrize("part", ["teacher", "denoiser"])
def test_a_missing_timing_of_a_network_is_a_dash(part):
    made = frame(**{f"seconds_{part}": math.nan})
    assert row_of(markdown(made), "rded")[f"{part} [s]"] == "–"


def test_a_missing_timing_of_a_teacher_that_labels_need_is_no_zero():
    hard = frame(protocol="hard", labels="hard", seconds_teacher=0.0)
    both = pd.concat([hard, frame(seconds_teacher=math.nan)], ignore_index=True)
    assert row_of(markdown(both), "rded")["teacher [s]"] == "–"


def test_recognition_is_shown_beside_soft_labels():
    soft = frame(recognised=87.5)
    hard = frame(protocol="hard", labels="hard", label_encoding="", label_teachers="")
    text = markdown(pd.concat([soft, hard], ignore_index=True))
    row = row_of(text, "rded")
    assert row["recognised [%]"] == "88"
    assert list(row).index("recognised [%]") > list(row).index("hard [%]")
    assert "- Recognised: share of a set's images, without augmentation, " in text
    assert "recognised [%]" not in row_of(markdown(hard), "rded")
    assert "Recognised" not in markdown(hard)
    (table,) = latex_tables(latex(soft))
    assert table["rows"][0] == ["method", "IPC", r"soft [\%]"]


def test_markdown_of_two_students():
    assert markdown(two_sections()) == MARKDOWN


def latex_tables(text):
    """Return (caption, label, rows) of every table; fail where LaTeX would.

    A small reader of what `markup.latex` may write: one command a line, balanced braces and
    environments, rows that end in ``\\\\`` with as many cells as the tabular has columns, no
    character that LaTeX takes for a command.
    """
    found, opened, n_columns = [], [], None
    for line in text.splitlines():
        line = line.strip()
        assert line.isascii()
        if not line or line.startswith("% "):
            continue
        bare = re.sub(r"\\[&%$#_{}]", "", line)
        assert bare.count("{") == bare.count("}")
        assert not re.search(r"[%#^~<>|]", bare)
        if environment := re.fullmatch(r"\\begin\{(\w+)\}(?:\{([lrc]+)\})?", line):
            opened.append(environment[1])
            n_columns = environment[2] and len(environment[2])
            found += [{"rows": []}] if environment[1] == "table" else []
        elif environment := re.fullmatch(r"\\end\{(\w+)\}", line):
            assert opened.pop() == environment[1]
        elif command := re.fullmatch(r"\\(caption|label)\{(.+)\}", line):
            assert opened == ["table"]
            found[-1][command[1]] = command[2]
        elif line in (r"\toprule", r"\midrule", r"\bottomrule"):
            assert opened == ["table", "tabular"]
        elif line != r"\centering":
            assert opened == ["table", "tabular"]
            assert line.endswith(r" \\")
            cells = re.split(r"(?<!\\)&", line.removesuffix(r" \\"))
            assert len(cells) == n_columns
            for cell in cells:
                assert not re.search(r"(?<!\\)[$_]", cell.replace(r"$\pm$", ""))
            found[-1]["rows"].append([cell.strip() for cell in cells])
    assert not opened
    return found


def test_latex_has_the_accuracies_of_the_markdown():
    first, second = latex_tables(latex(two_sections()))
    assert first["rows"] == [
        ["method", "IPC", r"soft [\%]", r"hard [\%]"],
        ["random", "1", r"62.0 $\pm$ 2.6", r"63.0 $\pm$ 2.6 (published 55.2)"],
        ["rded", "10", r"62.0 $\pm$ 2.6 (published 99.5)", r"63.0 $\pm$ 2.6 (published 55.2)"],
    ]
    assert second["rows"][1:] == [["rded", "10", "60.0 (published 70.0)"]]
    assert first["caption"].startswith("e: d, student s. soft: soft labels (float16) of t; ")
    assert second["caption"].startswith(r"e: d, student t\_1. ")
    assert [first["label"], second["label"]] == ["tab:e-d-s", "tab:e-d-t_1"]


@pytest.mark.parametrize("name", ["a_b", "50%", "a&b", "x^2~y", "$1", "{a}", "a\\b", "#1|<2>"])
def test_latex_escapes_names(name):
    (table,) = latex_tables(latex(frame(method=name, protocol=name, student=name)))
    assert table["rows"][1][0] == markup.escaped(name) == table["rows"][0][2].split(" [")[0]
    assert markup.escaped(name) != name


def test_groups_are_runs_of_columns():
    (section,) = table_layout.sections(frame())
    groups = table_layout.groups(section.columns)
    assert [(heading, [column.name for column in columns]) for heading, columns in groups] == [
        ("", ["method", "IPC"]),
        ("accuracy [%]", ["soft"]),
        ("bytes [kB]", ["images", "labels, soft"]),
        ("bits [kbit per class]", ["images", "labels, soft"]),
        ("seconds [s]", ["teacher", "distil", "label, soft", "train, soft"]),
    ]


def test_costs_are_means_over_students_without_zero_columns():
    rows = two_sections()
    rows.loc[(rows["protocol"] == "hard") & (rows["seed"] == 0), "seconds_train"] = 9.0
    columns = table_layout.cost_columns(rows)
    assert [column.heading for column in columns] == [
        *("method", "IPC", "protocol", "student"),
        *("teacher [s]", "distil [s]", "label [s]", "train [s]", "total [s]"),
    ]
    assert list(zip(*(column.texts for column in columns), strict=True)) == [
        ("random", "1", "soft", "s", "3.0", "–", "5.0", "6.0", "–"),
        ("random", "1", "hard", "s", "0.0", "4.0", "0.0", "7.0", "11.0"),
        ("rded", "10", "soft", "s", "3.0", "4.0", "5.0", "6.0", "18.0"),
        ("rded", "10", "hard", "s", "0.0", "4.0", "0.0", "7.0", "11.0"),
        ("rded", "10", "soft", "t_1", "3.0", "4.0", "5.0", "6.0", "18.0"),
    ]
