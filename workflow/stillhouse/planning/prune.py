"""Find artifacts that no config refers to: ``python -m stillhouse.planning.prune my.yaml …``.

Lists them with bytes and age, and deletes them after a ``yes`` on standard input.
"""

import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from stillhouse.artifacts import foreign_files, manifests, store
from stillhouse.artifacts.addresses import LINEAGE, MANIFESTS, RESULTS, member_folder
from stillhouse.artifacts.context import WORK
from stillhouse.artifacts.locks import try_lock
from stillhouse.errors import StillhouseError, UsageError, command
from stillhouse.methods.registry import stages
from stillhouse.planning.plan import of_file

DAY = 24 * 3600
# Folder of each stage for what is being deleted: a stage's folder may be on another disk.
DELETED = ".deleted"


@dataclass(frozen=True)
class Unused:
    """A folder or file that no config refers to.

    Parameters
    ----------
    path : Path
    n_bytes : int
    days : float
        Since its youngest file changed.
    """

    path: Path
    n_bytes: int
    days: float


def referred(plan):
    """Return the folders of all artifacts and members of a plan, and its manifests, as paths."""
    paths = {one.directory for by_path in plan.artifacts.values() for one in by_path.values()}
    for by_name in plan.families.values():
        for family in by_name.values():
            kind = family.artifact.stage.member
            folder = family.artifact.directory
            paths |= {folder, *(member_folder(folder, kind, member) for member in family.members)}
            paths |= {Path(block.manifest) for block in family.blocks.values()}
    return paths


def unused(plans):
    """Return `Unused` artifacts and manifests of blocks below ``results/``, the largest first.

    Folders without a ``spec.json``, reports, logs and checkpoints are no artifacts. What an
    interrupted deletion left is included.

    Parameters
    ----------
    plans : list of stillhouse.planning.plan.Plan
        Those whose artifacts stay.
    """
    needed = set().union(*map(referred, plans))
    alone = [path for path in _below_stages(LINEAGE) if _is_alone(path)]
    paths = [*_below_stages(store.SPEC), *alone]
    leftovers = [path.parent for path in paths if path.parent not in needed]
    interrupted = (RESULTS / name / DELETED for name in stages())
    leftovers += [path for path in interrupted if path.exists()]
    leftovers += [
        path for path in MANIFESTS.glob("*/*/*.json") if _lists_blocks(path) and path not in needed
    ]
    return sorted(map(_measured, leftovers), key=lambda one: -one.n_bytes)


def _below_stages(name):
    """Return the files of a name below the folders of all stages."""
    paths = [path for stage in stages() for path in (RESULTS / stage).rglob(name)]
    return [path for path in paths if DELETED not in path.parts]


def _is_alone(path):
    """Return whether a lineage exists and has no members; a killed job may have left files."""
    return path.exists() and not any(one.is_dir() for one in path.parent.iterdir())


def _lists_blocks(path):
    return path.parent.parent.name in stages() and bool(manifests.read(path))


def _measured(path):
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    states = [file.stat() for file in files]
    youngest = max((state.st_mtime for state in states), default=path.stat().st_mtime)
    return Unused(path, sum(state.st_size for state in states), (time.time() - youngest) / DAY)


def delete(leftovers):
    """Delete artifacts and manifests, then lineages without members and empty folders.

    Every artifact is complete or missing, also after an interrupted deletion.

    Parameters
    ----------
    leftovers : list of Unused

    Raises
    ------
    OSError
    """
    for path in sorted((leftover.path for leftover in leftovers), key=_turn):
        if path.is_dir():
            _delete_folder(path)
        else:
            path.unlink(missing_ok=True)
        for parent in path.parents:
            if _is_alone(parent / LINEAGE):
                shutil.rmtree(parent)
            elif parent == RESULTS or parent.is_symlink() or any(parent.iterdir()):
                break
            else:
                parent.rmdir()


def _turn(path):
    """Return the place of a deletion: first what lists others, whose members must not be missing.

    Before all what an earlier deletion left, whose place the others need.
    """
    return path.name != DELETED, path.is_dir(), path.parts[1] != "dataset"


def _delete_folder(path):
    place = RESULTS / path.parts[1] / DELETED
    if place.exists():
        shutil.rmtree(place)
    if path != place:
        place.mkdir()
        path.rename(place / path.name)
        shutil.rmtree(place)


def _check_free():
    """Raise a `StillhouseError` if a job runs."""
    if any(try_lock(path) is None for path in WORK.glob("*.lock")):
        raise StillhouseError(f"{WORK}: held by running jobs; wait for their end")


@command
def main(arguments, ask=input):
    """List what no config of the command line refers to, and delete it after a yes."""
    if not arguments or not all(arguments):
        raise UsageError('usage: make prune CONFIG="config.yaml my.yaml"')
    leftovers = unused([of_file(path) for path in arguments])
    for leftover in leftovers:
        print(f"{leftover.n_bytes / 1e6:12,.3f} MB {leftover.days:8.1f} days  {leftover.path}")
    size = sum(one.n_bytes for one in leftovers) / 1e6
    print(f"{len(leftovers)} artifacts and manifests of none of the configs, {size:,.3f} MB")
    if not leftovers:
        return
    _check_free()
    try:
        answer = ask("Delete them? Other configs would compute them again. [yes/no] ")
    except EOFError:
        answer = ""
    if answer.strip() != "yes":
        print("nothing deleted")
        return
    _check_free()
    try:
        delete(leftovers)
    except OSError as error:
        raise StillhouseError(
            f"{error.filename or RESULTS}: cannot be deleted ({foreign_files.reason(error)}); "
            "correct that, and prune again"
        ) from None
    print(f"deleted {len(leftovers)} artifacts and manifests")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
