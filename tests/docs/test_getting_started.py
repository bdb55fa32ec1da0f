"""The experiment of docs/getting-started.md is a valid config with the cells that it states."""

import re
from pathlib import Path

import yaml
from stillhouse.config.load import complete
from stillhouse.planning.plan import build

PAGE = Path(__file__).parents[2] / "docs/getting-started.md"


def test_the_experiment_is_a_valid_config():
    blocks = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    (text,) = [block for block in blocks if block.startswith("sources:")]
    plan = build(complete(yaml.safe_load(text), "own.yaml"))
    cells = plan.experiments["own"]
    assert {cell["method"] for cell in cells} == {"random", "herding", "rded"}
    assert len(cells) == 3 * 2 * 2 * 3  # methods, IPCs, protocols, seeds
    assert not plan.artifacts.get("denoiser")
