"""Distilled sets made elsewhere: read from their files, known by their digest."""

from stillhouse.data import normalisation
from stillhouse.errors import StillhouseError
from stillhouse.methods.base import Method
from stillhouse.methods.given.files import digest, set_files

# In a path: the IPC of the set.
IPC = "{ipc}"


class Given(Method):
    """A distilled set in files of the user."""

    kind = "given"
    images = "stillhouse.methods.given.images:images_of_class"
    learned = "stillhouse.methods.given.images:learned_parts"
    elsewhere = True

    def decide(self, settings):
        """Return settings with the digest of the files; read them if it is not set.

        Raises
        ------
        StillhouseError
            Begins with the key.
        """
        places = _places(settings)
        if len(places) != 1:
            problem = "conflicts with folder" if places else "missing, as is folder"
            raise StillhouseError(f"file: {problem}; set one of them, where the set is")
        decided, several = dict(settings), IPC in next(iter(places.values()))
        if several and "sha256" in settings:
            raise StillhouseError(f"sha256: conflicts with {IPC} in the path; remove it")
        if not several and "sha256" not in settings:
            decided["sha256"] = _digest(places)
        if isinstance(settings.get("normalisation"), str):
            mean, std = normalisation.PUBLISHED[settings["normalisation"]]
            decided["normalisation"] = {"mean": list(mean), "std": list(std)}
        return decided

    def files(self, settings, ipc):
        """Return the folder or the file of the set, by key."""
        return {key: place.replace(IPC, str(ipc)) for key, place in _places(settings).items()}

    def max_ipc(self, key, settings, ipcs, smallest, resolution):
        """Return (largest IPC, reason); raise if a set is missing for one of several IPCs."""
        if "sha256" in settings and len(set(ipcs)) > 1:
            raise StillhouseError(
                f"{key}: has one set for the IPCs {', '.join(map(str, ipcs))}; write {IPC} in the "
                f"path of sets that differ in it, sets/{IPC}, or use an experiment per IPC"
            )
        for ipc in () if "sha256" in settings else ipcs:
            try:
                _files(self.files(settings, ipc))
            except StillhouseError as error:
                raise StillhouseError(f"{key}.{error}") from None
        return max(ipcs), "there is a set for it"

    def plan(self, task):
        """Return (upstream, settings) of the distilled set: its files are no artifacts."""
        settings = task.without("folder", "file")
        if "sha256" not in settings:
            settings["sha256"] = _digest(self.files(task.settings, task.keys["ipc"]))
        chosen = task.plan.config["datasets"][task.dataset_name]
        if "normalisation" not in settings and "normalisation" in chosen:
            settings["dataset_normalisation"] = chosen["normalisation"]
        return {}, settings


def _places(settings):
    return {key: settings[key] for key in ("folder", "file") if key in settings}


def _digest(places):
    """Return the digest of the set at a place, {key: path}."""
    return digest(_files(places))


def _files(places):
    ((key, place),) = places.items()
    return set_files(place, key == "folder")
