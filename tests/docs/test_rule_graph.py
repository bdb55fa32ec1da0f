"""The graph of rules in docs/workflow.md is that of the embedded default; folders are described."""

import re

import pytest
from stillhouse.methods.registry import stages

from docs import config_table, rule_graph


@pytest.mark.workflow
def test_the_page_is_up_to_date_and_its_graph_is_small():
    text, printed = rule_graph.PAGE.read_text(), rule_graph.printed()
    rules = re.findall(r"\[(\w+)\]", printed)
    assert len(rules) == len(set(rules)) <= 37
    block = rule_graph.mermaid(rule_graph.reduced(rule_graph.arrows(printed)))
    markers = rule_graph.BEGIN, rule_graph.END
    assert config_table.insert(text, block, *markers) == text, "run `make format`"


def test_arrows_are_read_by_the_names_of_rules():
    text = "flowchart TB\n\tid0[all]\n\tid1[page_2]\n\tstyle id0 fill:#D95757\n\tid1 --> id0\n"
    assert rule_graph.arrows(text) == {("page_2", "all")}


def test_arrows_that_follow_from_others_are_omitted():
    chain = {("a", "b"), ("b", "c"), ("c", "d")}
    assert rule_graph.reduced(chain | {("a", "c"), ("a", "d"), ("b", "d")}) == chain
    diamond = {("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")}
    assert rule_graph.reduced(diamond | {("a", "d")}) == diamond


def test_the_folder_of_every_stage_is_described():
    section = rule_graph.PAGE.read_text().partition("\n## Files\n")[2].partition("\n## ")[0]
    folders = " ".join(row.split("|")[1] for row in section.splitlines() if row.startswith("| `"))
    assert set(stages()) <= set(re.findall(r"`(\w+)/`", folders))
