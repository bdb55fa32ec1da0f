"""Recorded numbers of every stage, which must not change without its version.

``python -m tests.golden.test_golden`` records them again.
"""

import json
import os
import sys
from pathlib import Path

import pytest
from stillhouse.artifacts.stages import REPORT_VERSIONS
from stillhouse.methods.registry import stages

from tests.golden.config import BESIDE, CODED, CONFIG, MATCHING, SYNTHESIS
from tests.golden.summaries import STAGES

GOLDEN = Path(__file__).with_name("golden.json")
VERSIONS = {name: stage.version for name, stage in stages().items()} | REPORT_VERSIONS
RECORD = "STILLHOUSE_RECORD_GOLDEN"


@pytest.fixture(scope="module")
def actual(tmp_path_factory, planned, make_all):
    """Run every stage and return its numbers; record them if requested."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("golden"))
    try:
        plans = {}
        for config in (CONFIG, SYNTHESIS, MATCHING, CODED):
            plans[id(config)] = planned(config)
            make_all(plans[id(config)])
        numbers = {
            stage: {
                "version": VERSIONS[stage],
                "numbers": of(plans[id(BESIDE.get(stage, CONFIG))]),
            }
            for stage, of in STAGES.items()
        }
    finally:
        os.chdir(before)
    if RECORD in os.environ:
        GOLDEN.write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")
    return numbers


def agree(actual, wanted):
    """Return whether floats agree to a thousandth and all else is equal."""
    if isinstance(wanted, dict):
        return actual.keys() == wanted.keys() and all(agree(actual[k], wanted[k]) for k in wanted)
    if isinstance(wanted, list):
        return len(actual) == len(wanted) and all(map(agree, actual, wanted))
    if isinstance(wanted, float):
        return actual == pytest.approx(wanted, rel=1e-3, abs=1e-5)
    return actual == wanted


@pytest.mark.parametrize("stage", STAGES)
def test_numbers_are_those_of_the_version(actual, stage):
    wanted = json.loads(GOLDEN.read_text())[stage]
    assert actual[stage]["version"] == wanted["version"], (
        f"stage {stage!r} has another version than its recorded numbers; record them with "
        "`python -m tests.golden.test_golden`"
    )
    assert agree(actual[stage]["numbers"], wanted["numbers"]), (
        f"the numbers of stage {stage!r} are not those of version {wanted['version']}; if that is "
        "intended, raise the version of its `Stage` (unless an upstream stage has a new version) "
        "and record them with `python -m tests.golden.test_golden`\n"
        f"actual {actual[stage]['numbers']}\n"
        f"wanted {wanted['numbers']}"
    )


def test_every_stage_that_computes_has_numbers():
    # Figures are drawn from cells, by the installed matplotlib; a dataset has no numbers.
    assert set(STAGES) == set(VERSIONS) - {"figures", "dataset", "patch_features"}


@pytest.mark.parametrize(
    ("actual", "same"), [([1, 2.0, "a"], True), ([1, 2.01, "a"], False), ([2, 2.0, "a"], False)]
)
def test_a_changed_number_is_detected(actual, same):
    assert agree({"x": actual}, {"x": [1, 2.0, "a"]}) is same


if __name__ == "__main__":
    os.environ[RECORD] = "1"
    sys.exit(pytest.main([__file__]))
