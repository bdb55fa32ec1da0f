"""Students of cells: trained on a distilled set, or on all training images of a dataset."""

from stillhouse.artifacts.addresses import Artifact, slug
from stillhouse.artifacts.stages import LABELS, STUDENTS
from stillhouse.config import protocols
from stillhouse.data.sources import catalogue
from stillhouse.methods.task import dataset_manifest, network, teacher, whitening


def of_set(plan, dataset, distilled, protocol, student):
    """Return the artifact of the students of a distilled set, stored per seed.

    Parameters
    ----------
    plan : stillhouse.planning.plan.Plan
    dataset : str
    distilled : Artifact
    protocol, student : str
    """
    config = plan.config
    chosen = config["protocols"][protocol]
    labels, net = config["labels"][chosen["labels"]], network(plan, student, dataset)
    teachers = [teacher(plan, name, dataset) for name in labels.get("teachers", ())]
    # RDED's tables of rates and batch sizes have one teacher.
    architecture = teachers[0].settings["arch"] if len(teachers) == 1 else ""
    n_classes, resolution = len(distilled.settings["classes"]), distilled.settings["resolution"]
    training, batch_size = protocols.for_cell(
        chosen, net, architecture, n_classes, resolution, distilled.keys["ipc"]
    )
    shaping, upstream = _labels(plan, distilled, labels, teachers, batch_size)
    upstream |= whitening(plan, net, dataset)
    images = dataset_manifest(
        plan, config["datasets"][dataset]["source"], distilled.settings["classes"]
    )
    return Artifact(
        STUDENTS,
        _set_slug(distilled, labels["kind"], net["arch"]),
        {"labels": shaping, "network": net, "training": training},
        {"distilled": distilled, "images": images, **upstream},
    )


def of_full_data(plan, dataset, budget, ipc, protocol, student):
    """Return the artifact of students that are trained on all training images, with hard labels.

    There is no set of these images: students read them where they are stored.

    Parameters
    ----------
    plan : stillhouse.planning.plan.Plan
    dataset : str
    budget : str or int
        ``matched``: the epochs of the protocol, each with as many images as a distilled set of
        this IPC has, other ones in every epoch until all have been used; or a number of epochs of
        all training images, for every IPC.
    ipc : int
    protocol, student : str
        A protocol with hard labels.
    """
    config = plan.config
    chosen, own = config["datasets"][dataset], config["protocols"][protocol]
    labels, net = config["labels"][own["labels"]], network(plan, student, dataset)
    classes, per_epoch = chosen["classes"], {"images_per_epoch": ipc * len(chosen["classes"])}
    if budget != "matched":
        ipc, per_epoch = catalogue.smallest_class(config["sources"][chosen["source"]]), {}
        own = protocols.with_epochs(own, budget)
    training, batch_size = protocols.for_cell(own, net, "", len(classes), chosen["resolution"], ipc)
    images = dataset_manifest(plan, chosen["source"], classes)
    return Artifact(
        STUDENTS,
        slug(dataset, "full-data", labels["kind"], net["arch"]),
        {
            "classes": classes,
            "resolution": chosen["resolution"],
            "labels": {"kind": "hard", "batch_size": batch_size, "views": labels["views"]},
            "network": net,
            "training": training,
            **per_epoch,
        },
        {"images": images, **whitening(plan, net, dataset)},
    )


def tested_columns(artifact):
    """Return number, first and last of the epochs after which students are tested."""
    epochs = protocols.tested_epochs(artifact.settings["training"])
    return {"n_tests": len(epochs), "first_test": min(epochs), "last_test": max(epochs)}


def _labels(plan, distilled, labels, teachers, batch_size):
    """Return (settings, upstream) of the training labels of students."""
    shaping = {"kind": labels["kind"], "batch_size": batch_size}
    if labels["kind"] in protocols.FIXED_LABELS:
        return {**shaping, "views": labels["views"]}, {}
    if labels["kind"] == "online":
        drawn = {"views": labels["views"], "seed": labels["seed"]}
        return {**shaping, **drawn}, {"teachers": teachers}
    if labels["kind"] == "soft":
        if labels["epoch_order"] == "random":
            shaping["epoch_order"] = "random"
        return shaping, {"labels": _label_table(plan, distilled, labels, teachers, batch_size)}
    raise ValueError(f"unknown kind of labels {labels['kind']!r}")


def _label_table(plan, distilled, labels, teachers, batch_size):
    """Return the soft label table of a distilled set."""
    settings = {name: labels[name] for name in ("views", "encoding", "epochs_stored", "seed")}
    if labels["views"].get("mix_per") == "batch" or "siamese" in labels["views"]:
        settings["batch_size"] = batch_size
    if not labels["views_stored"]:
        settings["views_stored"] = False
    upstream = {"distilled": distilled, "teachers": teachers}
    return plan.add(Artifact(LABELS, _set_slug(distilled, "soft"), settings, upstream))


def _set_slug(distilled, *parts):
    """Return a readable slug, without names of labels, protocols and students in the config."""
    keys = [f"{name}{value}" for name, value in distilled.keys.items()]
    return slug(distilled.folder, distilled.slug, *keys, *parts)
