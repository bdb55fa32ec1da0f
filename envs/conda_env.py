"""Write ``stillhouse.yaml`` with the versions of ``requirements.txt``: ``make lock``.

Snakemake creates an environment from a copy of the YAML file elsewhere, which cannot refer to
``requirements.txt``; so it lists every package.
"""

import re
import sys
from pathlib import Path

HEADER = """\
# For `snakemake --software-deployment-method conda`; `make` does without conda.
# Written by `make lock` from requirements.txt.
channels: [conda-forge, nodefaults]
dependencies:
  - python=3.11
  - pip
  - pip:
"""
FOLDER = Path(__file__).parent


def conda_env(requirements):
    """Return the text of the YAML file for the text of pinned requirements."""
    pins = re.findall(r"^(\w[^\s\\]*==[^\\\n]+)", requirements, re.M)
    return HEADER + "".join(f'      - "{pin.strip()}"\n' for pin in pins)


def main():
    """Write the file; return the exit status."""
    requirements = (FOLDER / "requirements.txt").read_text()
    (FOLDER / "stillhouse.yaml").write_text(conda_env(requirements))
    return 0


if __name__ == "__main__":
    sys.exit(main())
