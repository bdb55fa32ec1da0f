"""From settled settings to all artifacts with their addresses.

The plan contains artifacts and their upstream; rules define the jobs. It is built from the config
alone, never from files, so that every process that parses the workflow builds the same plan.
"""

import itertools
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from stillhouse.artifacts.addresses import MANIFESTS, Artifact, digest, slug
from stillhouse.artifacts.stages import DISTILLED, STUDENTS
from stillhouse.config import references, yaml_files
from stillhouse.config.load import complete, located
from stillhouse.data.sources import catalogue
from stillhouse.methods import registry
from stillhouse.methods.task import Task
from stillhouse.planning import students
from stillhouse.training.teacher_accuracy import default_minimum


@dataclass(frozen=True)
class Block:
    """Members of an artifact that one job computes.

    Parameters
    ----------
    artifact : Artifact
    members : tuple
        Class ids, batches, seeds.
    name : str
        Position among the blocks, and a digest of the members.
    """

    artifact: Artifact
    members: tuple
    name: str

    @cached_property
    def manifest(self):
        """Path of the list of the block's files, as text; written when all are complete."""
        return str(MANIFESTS / self.artifact.stage.name / family_name(self.artifact) / self.file)

    @property
    def file(self):
        """File name of the manifest."""
        return f"{self.name}.json"


def family_name(artifact):
    """Return an artifact's path below its stage as one path component."""
    return artifact.relative_path.replace("/", "_")


@dataclass
class Family:
    """An artifact that is stored per class, batch, seed or other member.

    Parameters
    ----------
    artifact : Artifact
    size : int
        Members per block.
    order : dict
        Position of each class in its source; empty for numbered members.
    members : dict
        Members of all cells, as an ordered set.
    """

    artifact: Artifact
    size: int
    order: dict = field(default_factory=dict)
    members: dict = field(default_factory=dict)

    @cached_property
    def blocks(self):
        """The blocks, cut at fixed positions of the source's classes, {name: Block}."""
        members = sorted(self.members, key=self.order.__getitem__) if self.order else self.members
        numbered = ((self.order.get(m, i) // self.size, m) for i, m in enumerate(members))
        blocks = {}
        for number, group in itertools.groupby(numbered, key=lambda pair: pair[0]):
            chosen = tuple(member for _, member in group)
            name = f"{number:04d}-{digest(chosen)}"
            blocks[name] = Block(self.artifact, chosen, name)
        return blocks

    @cached_property
    def manifest_of(self):
        """{member: manifest of its block}."""
        manifests = {}
        for block in self.blocks.values():
            manifests |= dict.fromkeys(block.members, block.manifest)
        return manifests


@dataclass
class Plan:
    """All artifacts of a config, by stage and by name.

    Parameters
    ----------
    config : dict
        As `stillhouse.config.load.complete` returns it.
    artifacts : dict of str to dict of str to Artifact
        Artifacts without members: by stage, then by path below the stage's folder.
    families : dict of str to dict of str to Family
        Artifacts with members: by stage, then by `family_name`.
    teacher_configs : dict of str to list of dict
        By name of a teacher artifact: the settings of all teachers of the config that share it,
        including those outside of addresses (location of weights, minimum accuracy).
    experiments : dict of str to list of dict
        Cells of each table, in order: identity, student artifact and seed.
    marking : set of str
        Paths below their stage of the students that are stored even if they diverge.
    set_files : dict of str to (str, dict)
        By path below its stage of a distilled set: name and `files` of the method, for those that
        are made from files of the user.
    """

    config: dict
    artifacts: dict = field(default_factory=dict)
    families: dict = field(default_factory=dict)
    teacher_configs: dict = field(default_factory=dict)
    experiments: dict = field(default_factory=dict)
    marking: set = field(default_factory=set)
    set_files: dict = field(default_factory=dict)

    def add(self, artifact):
        """Add an artifact without members; return the one first added with its path."""
        return self.artifacts.setdefault(artifact.stage.name, {}).setdefault(
            artifact.relative_path, artifact
        )

    def add_members(self, artifact, members, source=None):
        """Add members of an artifact; return the artifact first added with its path.

        Parameters
        ----------
        artifact : Artifact
        members : iterable
        source : str, optional
            Source of the classes, if members are class ids.
        """
        families = self.families.setdefault(artifact.stage.name, {})
        name = family_name(artifact)
        if name not in families:
            families[name] = Family(artifact, *self._cut(artifact.stage, source))
        families[name].members |= dict.fromkeys(members)
        return families[name].artifact

    def _cut(self, stage, source):
        """Return the size of a stage's blocks, and the order of its members."""
        if source is not None:
            return self.config["sources"][source]["classes_per_block"], self._order(source)
        name = "seeds_per_job" if stage == STUDENTS else "batches_per_job"
        return self.config["compute"][name], {}

    def _order(self, source):
        classes = catalogue.classes(self.config["sources"][source])
        return {class_id: i for i, class_id in enumerate(classes)}

    def family(self, artifact):
        """Return the `Family` of an artifact."""
        return self.families[artifact.stage.name][family_name(artifact)]

    def manifests(self, artifact, members=None):
        """Return the manifests of the blocks of an artifact's members, by default of all."""
        family = self.family(artifact)
        if members is None:
            return [block.manifest for block in family.blocks.values()]
        return list(dict.fromkeys(family.manifest_of[member] for member in members))

    def min_accuracy(self, artifact):
        """Return the highest `min_accuracy` of a teacher [%]; the default if none is set."""
        settings = self.teacher_configs[artifact.name]
        lowest = [one["min_accuracy"] for one in settings if "min_accuracy" in one]
        return max(lowest, default=default_minimum(len(artifact.settings["classes"])))

    def on_divergence(self, artifact):
        """Return ``mark`` if a protocol of the config wants diverged students stored, or error."""
        return "mark" if artifact.relative_path in self.marking else "error"

    def distilled(self, dataset, name, settings, ipc, seed):
        """Return the distilled set of a method; add it and its upstream.

        Parameters
        ----------
        dataset, name : str
            Dataset and method.
        settings : dict
            Of the method, resolved.
        ipc, seed : int
        """
        task = Task(self, dataset, settings, {"ipc": ipc, "seed": seed})
        kind = settings["kind"]
        upstream, shaping = registry.method(kind).plan(task)
        artifact = Artifact(
            DISTILLED,
            slug(name),
            {"kind": kind, **shaping, "classes": task.classes, "resolution": task.resolution},
            upstream,
            task.keys,
            folder=slug(dataset),
        )
        files = registry.method(kind).files(settings, ipc)
        if files:
            self.set_files.setdefault(artifact.relative_path, (name, files))
        return self.add(artifact)


def of_file(path):
    """Return the `Plan` of a config file, for commands beside Snakemake."""
    path = Path(path)
    config = complete(yaml_files.read(path), str(path), [path])
    with located(str(path), [path]):
        return build(config)


def build(config):
    """Return the `Plan` of settled settings."""
    plan = Plan(config)
    for name in sorted(config["experiments"]):
        plan.experiments[name] = list(_cells(plan, name, config["experiments"][name]))
    return plan


def _cells(plan, name, experiment):
    """Yield the cells of one experiment: every combination of its parts, then full data."""
    config, chosen = plan.config, plan.config["datasets"][experiment["dataset"]]
    parts = {
        protocol: references.of_protocol(config, experiment, protocol)
        for protocol in experiment["protocols"]
    }
    cells = itertools.chain(_set_cells(plan, experiment), _full_data_cells(plan, experiment))
    for identity, artifact in cells:
        protocol, student = identity["protocol"], identity["student"]
        plan.add_members(artifact, experiment["seeds"])
        if config["protocols"][protocol]["on_divergence"] == "mark":
            plan.marking.add(artifact.relative_path)
        shared = {
            "experiment": name,
            "dataset": experiment["dataset"],
            "n_classes": len(chosen["classes"]),
            "resolution": chosen["resolution"],
            "arch": config["students"][student]["arch"],
            "artifact": artifact,
            **_label_columns(config, protocol),
            **students.tested_columns(artifact),
            **parts[protocol],
        }
        for seed in experiment["seeds"]:
            yield {**identity, **shared, "seed": seed}


def _set_cells(plan, experiment):
    """Yield (identity, student artifact) of every distilled set, protocol and student."""
    dataset = experiment["dataset"]
    sets = itertools.product(
        experiment["methods"].items(), experiment["ipc"], experiment["distill_seeds"]
    )
    for (method, settings), ipc, distill_seed in sets:
        distilled = plan.distilled(dataset, method, settings, ipc, distill_seed)
        for protocol, student in itertools.product(experiment["protocols"], experiment["students"]):
            identity = {
                "method": method,
                "kind": settings["kind"],
                "fidelity": settings["fidelity"],
                "ipc": ipc,
                "distill_seed": distill_seed,
                "teacher": _teacher_names(plan.config, settings, protocol),
                "student": student,
                "protocol": protocol,
            }
            yield identity, students.of_set(plan, dataset, distilled, protocol, student)


def _full_data_cells(plan, experiment):
    """Yield (identity, student artifact) of every budget of full data, IPC, protocol, student."""
    dataset = experiment["dataset"]
    hard = references.hard_protocols(plan.config, experiment) if experiment["full_data"] else []
    parts = (experiment["full_data"], experiment["ipc"], hard, experiment["students"])
    for budget, ipc, protocol, student in itertools.product(*parts):
        identity = {
            "method": references.full_data_name(budget),
            "kind": references.FULL_DATA,
            "fidelity": "",
            "ipc": ipc,
            "distill_seed": experiment["distill_seeds"][0],
            "teacher": "",
            "student": student,
            "protocol": protocol,
        }
        yield identity, students.of_full_data(plan, dataset, budget, ipc, protocol, student)


def _teacher_names(config, settings, protocol):
    of_method = registry.method(settings["kind"]).teachers(settings).values()
    of_labels = config["labels"][config["protocols"][protocol]["labels"]].get("teachers", [])
    return "+".join(dict.fromkeys([*itertools.chain(*of_method), *of_labels]))


def _label_columns(config, protocol):
    settings = config["protocols"][protocol]
    labels = config["labels"][settings["labels"]]
    return {
        "labels": labels["kind"],
        "label_encoding": labels.get("encoding", ""),
        "label_teachers": "+".join(labels.get("teachers", [])),
        "report": settings["report"],
        "on_divergence": settings["on_divergence"],
    }
