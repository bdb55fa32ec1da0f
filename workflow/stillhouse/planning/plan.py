"""From a complete config to the artifacts that it wants, with their addresses.

The plan says what there is to make and from what; the rules say how jobs make it. It is built from
the config alone, never from what lies on disk, so that every process that parses the workflow
builds the same one.
"""

from dataclasses import dataclass, field

from stillhouse.artifacts.addresses import Artifact, digest, label
from stillhouse.config import protocols
from stillhouse.config.validation import methods_of, teachers_of
from stillhouse.data.sources import catalogue
from stillhouse.errors import StillhouseError
from stillhouse.methods.statistical_matching.batches import batches
from stillhouse.planning import recipes

PER_CLASS = {
    "images": "images.parquet",
    "latents": "latents.safetensors",
    "inversion": "inversion.safetensors",
    "samples": "samples.safetensors",
    "prototypes": "prototypes.safetensors",
    "decode": "images.parquet",
    "patch_scores": "scores.parquet",
    "class_scores": "scores.parquet",
    "features": "features.parquet",
    "clusters": "clusters.parquet",
}


@dataclass
class Family:
    """An artifact with members: one a class, a batch of synthesised images, or a student seed.

    Parameters
    ----------
    artifact : Artifact
        The family, without the member's key.
    source : str
        Name of the source whose blocks cut it; empty for batches and seeds.
    members : dict
        The wanted class ids, batches or seeds, as an ordered set.
    """

    artifact: Artifact
    source: str = ""
    members: dict = field(default_factory=dict)


@dataclass
class Plan:
    """All artifacts of a config, by stage and by name.

    Parameters
    ----------
    single : dict of str to dict of str to Artifact
        Stage, then path below the stage's folder.
    families : dict of str to dict of str to Family
        The same for artifacts with members.
    given : dict of str to list of dict
        By a teacher artifact's name: the settings of all teachers of the config that it is, with
        what shapes no artifact (where its weights lie, how bad it may be).
    experiments : dict of str to list of dict
        The cells of each table, in order: identity, student artifact, and whose bytes to count.
    """

    config: dict
    single: dict = field(default_factory=dict)
    families: dict = field(default_factory=dict)
    given: dict = field(default_factory=dict)
    experiments: dict = field(default_factory=dict)

    def add(self, artifact):
        """Want an artifact; the same one is kept once."""
        return self.single.setdefault(artifact.stage, {}).setdefault(artifact.place, artifact)

    def add_members(self, artifact, members, source=""):
        """Want members of a family."""
        family = self.families.setdefault(artifact.stage, {}).setdefault(
            artifact.place, Family(artifact, source)
        )
        family.members |= dict.fromkeys(members)
        return family.artifact

    def min_accuracy(self, teacher):
        """Return the strictest bar for a teacher artifact [%]; 1.5 times chance if none is set."""
        bars = [t["min_accuracy"] for t in self.given[teacher.name] if "min_accuracy" in t]
        return max(bars, default=150 / len(teacher.settings["classes"]))

    def blocks(self, stage):
        """Yield (family, classes) for every job of a per-class stage, in source order."""
        for family in self.families.get(stage, {}).values():
            source = self.config["sources"][family.source]
            wanted = [c for c in catalogue.classes(source) if c in family.members]
            size = source["classes_per_block"]
            for first in range(0, len(wanted), size):
                yield family, wanted[first : first + size]

    def parts(self, stage, size):
        """Yield (family, members) for every job of a stage whose members are numbered."""
        for family in self.families.get(stage, {}).values():
            members = list(family.members)
            for first in range(0, len(members), size):
                yield family, members[first : first + size]


def member_files(artifact, class_ids):
    """Return the paths of a per-class family's files for some classes."""
    return [artifact.at(class_id=c).file(PER_CLASS[artifact.stage]) for c in class_ids]


def batch_files(artifact, members=None, name="images.parquet"):
    """Return the paths of one of the files of each batch of a synthesis, or of some batches."""
    if members is None:
        members = range(len(batches(artifact.settings, artifact.keys["ipc"])))
    return [artifact.at(batch=number).file(name) for number in members]


def block_name(artifact, members):
    """Return the name of a block's rule: stage, keys, first and last member, digest."""
    keys = [f"{name}{value}" for name, value in artifact.keys.items()]
    ends = [m if m == label(m) else digest(m) for m in (members[0], members[-1])]
    return "_".join([artifact.stage, *keys, *ends, artifact.digest])


def given_folders(config):
    """Return {digest of its files: folder} of all pretrained weights that lie in folders."""
    methods = [m for e in config["experiments"].values() for _, m in methods_of(config, e)]
    holders = [*config["denoisers"].values(), *config["methods"].values(), *methods]
    given = [holder[k] for holder in holders for k in ("pretrained", "clip") if k in holder]
    folders = {}
    for one in given:
        if "folder" in one and folders.setdefault(one["sha256"], one["folder"]) != one["folder"]:
            raise StillhouseError(
                f"{one['folder']} and {folders[one['sha256']]}: are given the same sha256; should "
                "be one folder, or each have its own digest"
            )
    return folders


def build(config):
    """Return the `Plan` of a complete config."""
    plan = Plan(config)
    for name in sorted(config["experiments"]):
        plan.experiments[name] = list(_cells(plan, name, config["experiments"][name]))
    return plan


def _cells(plan, name, experiment):
    """Yield the cells of one experiment: every combination that it names."""
    config = plan.config
    for method, settings in methods_of(config, experiment):
        for ipc in experiment["ipc"]:
            for seed in experiment["distill_seeds"]:
                distilled = recipes.distilled(
                    plan, experiment["dataset"], method, settings, ipc, seed
                )
                for protocol in experiment["protocols"]:
                    for student in experiment["students"]:
                        cell = _students(plan, experiment, distilled, protocol, student)
                        for student_seed in experiment["seeds"]:
                            yield {
                                "experiment": name,
                                "dataset": experiment["dataset"],
                                "method": method,
                                "fidelity": settings["fidelity"],
                                "ipc": ipc,
                                "distill_seed": seed,
                                "teacher": _teacher_names(config, settings, protocol),
                                "student": student,
                                "protocol": protocol,
                                "seed": student_seed,
                                "kind": settings["kind"],
                                "arch": config["students"][student]["arch"],
                                "artifact": cell.at(student_seed=student_seed),
                                **_label_columns(config, protocol),
                            }


def _teacher_names(config, method, protocol):
    names = teachers_of(method)
    names += config["labels"][config["protocols"][protocol]["labels"]].get("teachers", [])
    return "+".join(dict.fromkeys(names))


def _label_columns(config, protocol):
    settings = config["protocols"][protocol]
    labels = config["labels"][settings["labels"]]
    return {
        "labels": labels["kind"],
        "label_encoding": labels.get("encoding", ""),
        "label_teachers": "+".join(labels.get("teachers", [])),
        "report": settings["report"],
    }


def _judge(config, labels):
    """Return the architecture of the one teacher of labels; empty for none or several."""
    teachers = labels.get("teachers", ())
    return config["teachers"][teachers[0]]["arch"] if len(teachers) == 1 else ""


def _labels(plan, dataset, distilled, protocol):
    """Return (kind, settings, upstream) of what a protocol tells its students."""
    config = plan.config
    name = config["protocols"][protocol]["labels"]
    given = config["labels"][name]
    views = protocols.views(given)
    n_classes = len(distilled.settings["classes"])
    task = (_judge(config, given), n_classes, distilled.settings["resolution"])
    batch = protocols.batch_size(
        config["protocols"][protocol]["batch_size"], distilled.keys["ipc"], *task
    )
    if given["kind"] == "hard":
        return {"kind": "hard", "views": views, "batch_size": batch}, {}
    teachers = {
        f"teacher{i}": recipes.teacher(plan, t, dataset) for i, t in enumerate(given["teachers"])
    }
    if given["kind"] == "online":
        settings = {"kind": "online", "views": views, "batch_size": batch, "seed": given["seed"]}
        return settings, teachers
    settings = {
        "views": views,
        "encoding": given["encoding"],
        "epochs_stored": given["epochs_stored"],
        "seed": given["seed"],
    }
    if views.get("mix_per") == "batch" or "siamese" in views:
        settings["batch_size"] = batch
    table = Artifact(
        "labels", _set_label(distilled, "soft"), settings, {"distilled": distilled, **teachers}
    )
    return {"kind": "soft", "batch_size": batch}, {"labels": plan.add(table)}


def _set_label(distilled, *parts):
    """Return a readable label; no names of labels, protocols or students, which shape nothing."""
    keys = [f"{k}{v}" for k, v in distilled.keys.items()]
    return label(distilled.folder, distilled.label, *keys, *parts)


def _students(plan, experiment, distilled, protocol, student):
    """Return the family of students (one a seed) of one cell, with the seeds wanted."""
    config = plan.config
    network = config["students"][student]
    labels, upstream = _labels(plan, experiment["dataset"], distilled, protocol)
    judge = _judge(config, config["labels"][config["protocols"][protocol]["labels"]])
    n_classes, resolution = len(distilled.settings["classes"]), distilled.settings["resolution"]
    given = config["protocols"][protocol]
    given = {**given, "epochs": protocols.epochs(given["epochs"], distilled.keys["ipc"], n_classes)}
    settings = {
        "labels": labels,
        "network": network,
        "training": protocols.protocol(
            given, labels["kind"], network, judge, n_classes, resolution
        ),
    }
    artifact = Artifact(
        "students",
        _set_label(distilled, labels["kind"], network["arch"]),
        settings,
        {"distilled": distilled, **upstream},
    )
    return plan.add_members(artifact, experiment["seeds"])
