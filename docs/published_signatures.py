"""The signatures in workflow/published/signatures.json, of all presets as they are planned now.

python docs/published_signatures.py
"""

from pathlib import Path

import yaml
from stillhouse.config.load import complete
from stillhouse.planning.plan import build
from stillhouse.reporting import published

PRESETS = Path(__file__).parents[1] / "workflow/presets"
PUBLISHED = PRESETS.with_name("published")


def cells_of(preset):
    """Return (identity, spec of the students) of each cell of a preset."""
    path = PRESETS / f"{preset}.yaml"
    config = complete(yaml.safe_load(path.read_text()), path.name, [path])
    experiments = build(config).experiments.values()
    return [(cell, cell["artifact"].spec()) for cells in experiments for cell in cells]


if __name__ == "__main__":
    published.record(PUBLISHED, cells_of)
