"""The package beside the rules, whatever is installed, and the check that config.yaml is YAML."""

import os
import sys
from pathlib import Path

# Scripts run in processes of their own.
PACKAGE = str(Path(workflow.basedir) / "workflow")
sys.path.insert(0, PACKAGE)
inherited = dict(os.environ).get("PYTHONPATH", "").split(os.pathsep)
os.environ.update(PYTHONPATH=os.pathsep.join(dict.fromkeys([PACKAGE, *filter(None, inherited)])))

from snakemake.exceptions import WorkflowError

from stillhouse.config.yaml_files import compose
from stillhouse.errors import StillhouseError

# Snakemake reads the files of --configfile before the Snakefile, and reports them itself.
try:
    if not workflow.overwrite_configfiles:
        compose(f"{workflow.basedir}/config.yaml")
except StillhouseError as error:
    raise WorkflowError(str(error)) from None
