"""Measured memory and seconds of jobs beside what they ask for: the table in docs/scale.md.

``python docs/measured_resources.py config.yaml``, in the folder of a finished run on CPUs. Reads
Snakemake's benchmark files; prints one row per stage, with the largest numbers of its jobs.
"""

import json
import sys
from pathlib import Path

from stillhouse.planning import resources
from stillhouse.planning.plan import of_file
from stillhouse.planning.sizes import Sizes

HEADER = """\
| stage | jobs | peak [MB] | asked [MB] | processor [s] | estimated [s] | limit [min] |
| --- | --- | --- | --- | --- | --- | --- |"""


def jobs(plan):
    """Yield (stage, benchmark file, artifact, members) of all jobs of a plan."""
    for name, families in plan.families.items():
        for place, family in families.items():
            for block in family.blocks.values():
                path = f"results/benchmarks/{name}/{place}/{block.name}.jsonl"
                yield name, path, family.artifact, len(block.members)
    for name, artifacts in plan.artifacts.items():
        for place, artifact in artifacts.items():
            yield name, f"results/benchmarks/{name}/{place}.jsonl", artifact, 1


def rows(plan):
    """Return {stage: list of (peak, asked, processor, estimated, limit)} of the jobs that ran."""
    sizes, machine = Sizes(plan.config), resources.machine("cpu", plan.config["compute"]["threads"])
    found = {}
    for name, path, artifact, n_members in jobs(plan):
        if not Path(path).exists():
            continue
        measured = json.loads(Path(path).read_text().splitlines()[-1])
        work = sizes.work(artifact)
        asked = resources.asked(work, n_members, machine, artifact.stage.on_device)
        estimated = n_members * resources.seconds(work, machine)
        row = (measured["max_rss"], asked["mem_mb"], measured["cpu_time"], estimated)
        found.setdefault(name, []).append((*row, asked["runtime"]))
    return found


if __name__ == "__main__":
    print(HEADER)
    for name, stage_rows in sorted(rows(of_file(sys.argv[1])).items()):
        most = [max(column) for column in zip(*stage_rows, strict=True)]
        print(f"| `{name}` | {len(stage_rows)} | {' | '.join(f'{value:,.0f}' for value in most)} |")
