"""What the terminal shows: one line where a job starts, one where it ends, the log where it fails.

The log of a run below `.snakemake/log/` has what Snakemake prints by itself: inputs, outputs,
reasons, resources. With `--printshellcmds` (`-p`) or `--verbose` the terminal shows that, too.
"""

import re
import time

from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake.logging import DefaultFormatter, logger

N_FILES = 3
SCHEDULING = re.compile(
    r"Select jobs to execute|Execute \d+ jobs|Building DAG|Using shell|Rules claim"
)
# Reasons of every job of a first run.
ORDINARY = ("Missing output files", "Input files updated by another job")
BEGUN = time.time()


class Console(DefaultFormatter):
    """Formats the events of a run in lines of at most 300 characters."""

    def __init__(self, settings):
        super().__init__(settings.quiet, settings.show_failed_logs)
        self.running, self.dry_run = {}, settings.dryrun

    def format(self, record):
        if record.msg == NOTHING_TO_BE_DONE_MSG:
            return f"{record.msg}\n{where_to_look()}"
        # An empty line is not printed.
        return "" if SCHEDULING.match(record.msg or "") else super().format(record)

    def format_workflow_started(self, run):
        return f"Snakemake {run['snakemake_version']}, config: {CONFIGS}"

    def format_job_info(self, job):
        self.running[job["jobid"]] = (title(job["rule_name"], job["wildcards"]), time.monotonic())
        return f"{self.clock()}{self.running[job['jobid']][0]}{reason(job['reason'])}"

    def format_job_finished(self, job):
        name, begun = self.running.pop(job["job_id"], (job["msg"], None))
        seconds = "" if begun is None else f" in {time.monotonic() - begun:.1f} s"
        return f"{self.clock()}{name}: done{seconds}"

    def clock(self):
        return "" if self.dry_run else f"[{time.strftime('%X')}] "

    def _format_job_error(self, job):
        return super()._format_job_error(
            {**job, "input": first_of(job["input"]), "output": first_of(job["output"])}
        )


def title(rule, wildcards):
    """Return a job's stage, what it computes it of, and which members."""
    values = [
        f"{key} {value}" if value.lstrip("-").isdigit() else value
        for key, value in wildcards.items()
        if key != "block"
    ]
    name = shorten(" ".join([rule, *values]))
    if "block" not in wildcards:
        return name
    members = plan.families[rule][wildcards["family"]].blocks[wildcards["block"]].members
    return f"{name} {stages()[rule].member} {shorten(', '.join(map(str, members)), 60)}"


def reason(text):
    """Return why a job runs, where that is not just that it has not run yet."""
    parts = ["new contents" if NEW_CONTENTS in part else part for part in text.split("; ")]
    particular = [part for part in parts if not part.startswith(ORDINARY)]
    return f" ({shorten('; '.join(particular))})" if text and particular else ""


def shorten(text, length=120):
    """Return a text, cut in the middle where it is longer."""
    half = length // 2 - 1
    return text if len(text) <= length else f"{text[:half]} … {text[-half:]}"


def first_of(paths):
    """Return the first paths of a list, and the number of the others."""
    others = len(paths) - N_FILES
    return [*paths[:N_FILES], *([f"… and {others} more"] if others > 0 else [])]


def warn_of_larger_tables():
    """Warn of tables of earlier configs that had more cells than those that replace them."""
    for name, cells in plan.experiments.items():
        path = Path(f"results/tables/{name}.csv")
        n_rows = len(path.read_bytes().splitlines()) - 1 if path.exists() else 0
        if n_rows > len(cells):
            logger.warning(
                f"{path}: its {n_rows} cells are replaced by the {len(cells)} of {CONFIGS}; the "
                "earlier config restores them and recomputes only the table and its figures"
            )


def new_tables():
    """Return the tables that this run made, as text."""
    paths = [Path(f"results/tables/{name}.md") for name in plan.experiments]
    return "\n".join(p.read_text() for p in paths if p.exists() and p.stat().st_mtime >= BEGUN)


def where_to_look():
    """Return where the tables, pages, sets and figures of the config lie, of those that exist."""
    places = {
        name: (f"results/tables/{name}.md", f"results/report/{name}.html")
        for name in plan.experiments
    }
    places["all experiments"] = ("results/report/index.html",)
    places["distilled sets"] = ("results/distilled/",)
    places["figures"] = ("results/figures/",)
    existing = {name: [p for p in paths if Path(p).exists()] for name, paths in places.items()}
    return "\n".join(f"{name}: {'  '.join(paths)}" for name, paths in existing.items() if paths)


if not (workflow.output_settings.printshellcmds or workflow.output_settings.verbose):
    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler":
            handler.setFormatter(Console(workflow.output_settings))
