"""Captions of ``snakemake --report`` are reStructuredText without errors."""

import re

import pytest
from docutils.core import publish_doctree

from tests.snakemake_runs import ROOT

CAPTIONS = sorted((ROOT / "workflow/report").glob("*.rst"))


@pytest.mark.parametrize("path", CAPTIONS, ids=lambda path: path.stem)
def test_a_caption_is_parsed_without_a_message(path):
    text = re.sub(r"{{.*?}}", "x", path.read_text())
    # A message of level 2, a warning, stops the parser.
    publish_doctree(text, settings_overrides={"halt_level": 2, "report_level": 2})
