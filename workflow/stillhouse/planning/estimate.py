"""Estimate the cost of a config before its run: ``python -m stillhouse.planning.estimate my.yaml``.

Jobs, hours on one GPU and bytes of every stage, from the formulas of docs/scale.md; with ``cpu``
after the config, on one CPU. Nothing is computed, and no data is needed.
"""

import sys
from dataclasses import dataclass

from stillhouse.errors import UsageError, command
from stillhouse.planning import resources
from stillhouse.planning.plan import of_file


@dataclass
class Cost:
    """Summed cost of the jobs of a stage, as if no artifact existed.

    Parameters
    ----------
    jobs : int
    seconds : float
        Of GPUs, or of processes on a CPU, without the starts of jobs.
    stored_bytes : float
    memory_mb : float
        Of the largest job.
    """

    jobs: int = 0
    seconds: float = 0.0
    stored_bytes: float = 0.0
    memory_mb: float = 0.0

    def add(self, work, n_jobs, n_members, machine, on_device, n_processes=1):
        """Add the members of an artifact, or an artifact without members."""
        self.jobs += n_jobs
        self.seconds += n_members * n_processes * resources.seconds(work, machine, n_processes)
        self.stored_bytes += n_members * work.stored_bytes
        memory = resources.memory_mb(work, machine, on_device, n_processes)
        self.memory_mb = max(self.memory_mb, memory)


def estimate(plan, device="cuda"):
    """Return {stage: Cost} of a plan, the longest first.

    Parameters
    ----------
    plan : stillhouse.planning.plan.Plan
    device : str
        ``cuda`` or ``cpu``.
    """
    requests, costs = resources.Requests(plan.config, device), {}
    for artifact, n_jobs, n_members in _parts(plan):
        stage, work = artifact.stage, requests.sizes.work(artifact)
        machine, n_processes = requests.machine, requests.processes(artifact)
        cost = costs.setdefault(stage.name, Cost())
        cost.add(work, n_jobs, n_members, machine, stage.on_device, n_processes)
    return dict(sorted(costs.items(), key=lambda item: -item[1].seconds))


def _parts(plan):
    """Yield (artifact, jobs, members) of all artifacts of a plan."""
    for by_name in plan.families.values():
        for family in by_name.values():
            yield family.artifact, len(family.blocks), len(family.members)
    for by_path in plan.artifacts.values():
        for artifact in by_path.values():
            yield artifact, 1, 1


def table(costs):
    """Return the lines of a table of costs."""
    rows = [
        (name, cost.jobs, cost.seconds / 3600, cost.stored_bytes / 1e9, cost.memory_mb)
        for name, cost in costs.items()
    ]
    totals = [sum(column) for column in list(zip(*rows, strict=True))[1:4]]
    rows.append(("total", *totals, max(cost.memory_mb for cost in costs.values())))
    lines = [f"{'stage':<16}{'jobs':>8}{'hours':>12}{'GB':>12}{'memory MB':>12}"]
    return lines + [
        f"{name:<16}{jobs:>8,}{hours:>12,.3f}{size:>12,.3f}{memory:>12,.0f}"
        for name, jobs, hours, size, memory in rows
    ]


@command
def main(arguments):
    """Print the estimate for the config named on the command line."""
    if not arguments or not arguments[0] or arguments[1:] not in ([], ["cpu"], ["cuda"]):
        raise UsageError("usage: make estimate CONFIG=config.yaml [DEVICE=cpu]")
    device = (arguments[1:] or ["cuda"])[0]
    print("\n".join(table(estimate(of_file(arguments[0]), device))))
    unit = "GPU" if device == "cuda" else "CPU"
    print(
        f"Estimated for one {unit}, one job after the other, without the seconds in which a job "
        "starts, tables and pages; formulas: docs/scale.md."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
