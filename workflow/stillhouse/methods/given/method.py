"""Distilled sets made elsewhere: read from their files, known by their digest."""

from stillhouse.data import normalisation
from stillhouse.errors import StillhouseError
from stillhouse.methods.base import Method
from stillhouse.methods.given.files import digest, set_files


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
        places = self.files(settings)
        if len(places) != 1:
            problem = "conflicts with folder" if places else "missing, as is folder"
            raise StillhouseError(f"file: {problem}; set one of them, where the set is")
        decided = dict(settings)
        if "sha256" not in settings:
            ((key, place),) = places.items()
            decided["sha256"] = digest(set_files(place, key == "folder"))
        if isinstance(settings.get("normalisation"), str):
            mean, std = normalisation.PUBLISHED[settings["normalisation"]]
            decided["normalisation"] = {"mean": list(mean), "std": list(std)}
        return decided

    def files(self, settings):
        """Return the folder or the file of the set, by key."""
        return {key: settings[key] for key in ("folder", "file") if key in settings}

    def max_ipc(self, key, settings, ipcs, smallest, resolution):
        """Return (largest IPC, reason); raise if an experiment has several IPCs for one set."""
        if len(set(ipcs)) > 1:
            listed = ", ".join(map(str, ipcs))
            raise StillhouseError(
                f"{key}: has one set, but the experiment has the IPCs {listed}; use an experiment "
                "per IPC, with the set's folder or file in each"
            )
        return max(ipcs), "the set has one IPC"

    def plan(self, task):
        """Return (upstream, settings) of the distilled set: its files are no artifacts."""
        settings = task.without("folder", "file")
        chosen = task.plan.config["datasets"][task.dataset_name]
        if "normalisation" not in settings and "normalisation" in chosen:
            settings["dataset_normalisation"] = chosen["normalisation"]
        return {}, settings
