"""The bench itself: it is run by hand, so that a changed signature would go unnoticed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_row_of_the_bench_can_be_measured():
    run = [sys.executable, Path(__file__).with_name("run.py"), "--once"]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = re.findall(r"^\| .* \| (\d+\.\d\d) \| ", done.stdout, re.MULTILINE)
    assert len(rows) > 20 and all(float(ratio) > 0 for ratio in rows)
