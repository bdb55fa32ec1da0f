"""Verify all artifacts of a config: ``python -m stillhouse.planning.verify config.yaml``.

Every file is compared with its checksum. Manifests that list a missing or damaged member are
removed, so that the next run recomputes it. A missing or damaged lineage is written again.
"""

import sys

from stillhouse.artifacts import manifests, store
from stillhouse.artifacts.addresses import member_folder
from stillhouse.errors import UsageError, command
from stillhouse.planning.plan import of_file


def verify(plan):
    """Yield one line per artifact, existing or listed, with a missing or damaged file.

    Parameters
    ----------
    plan : stillhouse.planning.plan.Plan
    """
    for by_path in plan.artifacts.values():
        for artifact in by_path.values():
            if _has_files(artifact.directory):
                yield from _problems(artifact.directory, artifact.stage)
    for by_name in plan.families.values():
        for family in by_name.values():
            yield from _problems_of_members(family)


def _problems_of_members(family):
    artifact, stage = family.artifact, family.artifact.stage
    listed = {f for b in family.blocks.values() for f in _listed(b.manifest)}
    folders = [member_folder(artifact.directory, stage.member, m) for m in family.members]
    folders = [folder for folder in folders if _has_files(folder) or str(folder) in listed]
    if any(map(_has_files, folders)):
        try:
            store.read_lineage(artifact.directory)
        except store.FileError as error:
            # Without it no member can be checked, and no job needs to run.
            store.write_lineage(artifact.spec())
            yield f"{error.path}: missing or damaged; written again"
    for folder in folders:
        yield from _problems(folder, stage)


def _has_files(folder):
    # Snakemake makes the folder of a job's outputs before the job, which may have failed.
    return folder.is_dir() and any(path.is_file() for path in folder.iterdir())


def _listed(manifest):
    return manifests.read(manifest).get("members", {})


def _problems(folder, stage):
    try:
        store.check(folder / name for name in stage.files)
        # Some artifacts, such as a trained denoiser, have more files than the stage declares.
        store.check(folder / name for name in store.read_spec(folder)["files"])
    except store.FileError as error:
        yield f"{error}{manifests.forget(error.path)}"


@command
def main(arguments):
    """Verify the artifacts of the config named on the command line; return the exit status."""
    if len(arguments) != 1 or not arguments[0]:
        raise UsageError("usage: make verify CONFIG=config.yaml")
    problems = 0
    for problems, line in enumerate(verify(of_file(arguments[0])), 1):  # noqa: B007
        print(line)
    print(
        f"{problems} missing or damaged artifacts"
        if problems
        else "all computed artifacts are intact"
    )
    return int(problems > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
