"""The tables of recomputed stages in docs/workflow.md are those of the tested edits."""

from docs import config_table, rerun_table
from tests.planning import test_edits as edits


def test_the_page_is_up_to_date():
    text = rerun_table.PAGE.read_text()
    tables = rerun_table.tables(edits)
    markers = rerun_table.BEGIN, rerun_table.END
    assert config_table.insert(text, tables, *markers) == text, "run `make format`"


def test_every_tested_edit_is_in_a_table():
    text = rerun_table.tables(edits)
    keys = {f"`{key}" for _, key, *_ in edits.EDITS}
    keys |= {f"`{key}`" for key, *_ in edits.EDITS_OF_DENOISERS}
    keys |= {path.partition(".")[2].partition(".")[2] for path, *_ in edits.EDITS_BESIDE}
    assert {key for key in keys if key not in text} == set()


def test_settings_are_beside_the_stages_that_they_shape():
    lines = rerun_table.tables(edits).splitlines()
    (line,) = [line for line in lines if "`sampling_start`" in line]
    assert line == "| `d3hr` | `sampling_start` | `decode`, `distilled` |"
    (line,) = [line for line in lines if "`teachers.<name>.seed`" in line]
    assert line.endswith(
        "| `teacher`, `patch_scores`, `distilled`, `labels`, `students` | nothing |"
    )


def test_stages_of_several_methods_are_in_the_order_of_all_of_them():
    assert rerun_table._merged([["a", "b", "d"], ["a", "c", "d"], ["b", "c"]]) == list("abcd")
