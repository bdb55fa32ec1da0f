"""Wrong configs, one for each kind of message, and valid ones that are almost wrong.

Errors of the schema are in test_schema.py, those of methods in test_wrong_methods.py.
"""

import pytest
from stillhouse.config.load import complete
from stillhouse.errors import StillhouseError

from tests.config.changes import METHODS, all_of, put, refusal

PARQUET = {
    "kind": "parquet",
    "train": ["train.parquet"],
    "test": ["test.parquet"],
    "classes": ["cat", "dog", "hen"],
    "smallest_class": 40,
}
FOLDER = {
    "kind": "image_folder",
    "root": "pets",
    "classes": ["cat", "dog", "hen"],
    "smallest_class": 40,
}
FILE = {"file": "x", "sha256": "0" * 64}
LEARNING = {"kind": "tm", "student_steps": 2, "expert_epochs": 1, "start_epochs": 2}


# A change of the tiny config, the beginning of the message after the file, and its end.
WRONG = {
    "width beyond any network": (
        put("students.s.width", 10**9),
        "students.s.width: must be at most 65536, not 1000000000",
        "",
    ),
    "epochs beyond any training": (
        put("protocols.soft.epochs", 10**12),
        "protocols.soft.epochs: must be at most 1000000, not 1000000000000",
        "",
    ),
    "several processes on one GPU": (
        lambda config: config.update(compute={"device": "cuda:1", "processes": 2}),
        "compute.processes: 2 conflicts with compute.device 'cuda:1', a single GPU",
        "must be 1, or the device cuda",
    ),
    "accuracy as a share": (
        put("teachers.t.min_accuracy", 0.6),
        "teachers.t.min_accuracy: 0.6 must be 0 or at least 1, in percent",
        "set 60 for a share of 0.6",
    ),
    "seed beyond 64 bits": (
        put("experiments.x.seeds", [2**70]),
        "experiments.x.seeds.0: must be at most 9223372036854775807, not 1180591620717411303424",
        "",
    ),
    "20,000 seeds": (
        put("experiments.x.seeds", list(range(20_000))),
        "experiments.x.seeds: must have at most 1000 items, not [0, 1, 2",
        "",
    ),
    "an experiment with the name of the page of all": (
        lambda config: config["experiments"].update(index=config["experiments"]["x"]),
        "experiments.index: conflicts with results/report/index.html, the page of all experiments",
        "use another name",
    ),
    "too many cells": (
        all_of(
            put("experiments.x.seeds", list(range(1000))),
            put("experiments.x.distill_seeds", list(range(1000))),
        ),
        "experiments: 8,000,000 cells; must be at most 100,000",
        "",
    ),
    "one image per step": (
        all_of(
            put("students.s", {"arch": "resnet18_modified"}),
            put("protocols.soft.batch_size", 1),
        ),
        "protocols.soft.batch_size: 1 conflicts with 'resnet18_modified', whose batch norms",
        "must be at least 2",
    ),
    "one image per step of a teacher": (
        all_of(
            put("teachers.t", {"arch": "torchvision/resnet18", "batch_size": 1}),
        ),
        "teachers.t.batch_size: 1 conflicts with 'torchvision/resnet18', whose batch norms",
        "must be at least 2",
    ),
    "too many cells with full data": (
        all_of(
            put("experiments.x.seeds", list(range(1000))),
            put("experiments.x.full_data", list(range(1, 30))),
        ),
        "experiments: 124,000 cells; must be at most 100,000",
        "",
    ),
    "full data without hard labels": (
        all_of(
            put("experiments.x.full_data", ["matched"]),
            put("experiments.x.protocols", ["soft"]),
        ),
        "experiments.x.full_data: has no effect without a protocol with hard labels",
        "or remove it",
    ),
    "full data with a learned rate": (
        all_of(
            put("experiments.x.full_data", [2]),
            put("experiments.x.protocols", ["hard"]),
            put("protocols.hard.learning_rate", "learned"),
            put("methods", {"tm": {**LEARNING, "network": "i"}}),
            put("students.i", {"arch": "convnet1", "width": 4, "norm": "instance"}),
            put(METHODS, ["tm"]),
        ),
        "experiments.x.full_data: conflicts with protocols.hard.learning_rate: learned",
        "use another protocol, or remove it",
    ),
    "soft protocol as the hard one": (
        put("experiments.x.hard_protocol", "soft"),
        "experiments.x.hard_protocol: 'soft' has soft labels",
        "must be a protocol with hard labels",
    ),
    "unknown hard protocol": (
        put("experiments.x.hard_protocol", "hart"),
        "experiments.x.hard_protocol: unknown protocol of the experiment 'hart'",
        "did you mean 'hard'?",
    ),
    "unknown source": (
        put("datasets.three.source", "digit"),
        "datasets.three.source: unknown source 'digit'",
        "did you mean 'digits'?",
    ),
    "unknown class": (
        put("datasets.three.classes", ["0", "11"]),
        "datasets.three.classes: unknown class of source 'digits' '11'",
        "",
    ),
    "unknown dataset": (
        put("experiments.x.dataset", "thre"),
        "experiments.x.dataset: unknown dataset 'thre'",
        "did you mean 'three'?",
    ),
    "unknown method": (
        put(METHODS, ["rdd"]),
        "experiments.x.methods: unknown method 'rdd'",
        "did you mean 'rded'?",
    ),
    "unknown student": (
        put("experiments.x.students", ["z"]),
        "experiments.x.students: unknown student 'z'",
        "available: s",
    ),
    "unknown protocol": (
        put("experiments.x.protocols", ["sofft"]),
        "experiments.x.protocols: unknown protocol 'sofft'",
        "did you mean 'soft'?",
    ),
    "unknown labels": (
        put("protocols.hard.labels", "hart"),
        "protocols.hard.labels: unknown labels 'hart'",
        "did you mean 'hard'?",
    ),
    "unknown teacher of labels": (
        put("labels.soft.teachers", ["t", "zz"]),
        "labels.soft.teachers: unknown teacher 'zz'",
        "available: t",
    ),
    "unknown teacher of a method": (
        put("methods.rded.teacher", "zz"),
        "methods.rded.teacher: unknown teacher 'zz'",
        "available: t",
    ),
    "unknown feature space": (
        put("methods.h", {"kind": "herding", "feature_space": "pixel"}),
        "methods.h.feature_space: unknown teacher 'pixel'",
        "available: t",
    ),
    "unknown teacher of an override": (
        put(METHODS, [{"rded": {"teacher": "zz"}}]),
        "experiments.x.methods.rded.teacher: unknown teacher 'zz'",
        "available: t",
    ),
    "unknown dataset of a teacher": (
        put("teachers.t.dataset", "four"),
        "teachers.t.dataset: unknown dataset 'four'",
        "available: three",
    ),
    "unknown published list": (
        put("datasets.three.classes", "imagenete"),
        "datasets.three.classes: unknown published list of classes 'imagenete'",
        "did you mean 'imagenette'?",
    ),
    "published list of other classes": (
        put("datasets.three.classes", "imagenette"),
        "datasets.three.classes: unknown class of source 'digits' 'n01440764'",
        "",
    ),
    "all classes of a source that has to list them": (
        put("sources.tree", {**FOLDER, "classes": "all"}),
        "sources.tree.classes: unknown published list of classes 'all'",
        "",
    ),
    "class that is no folder": (
        put("sources.tree", {**FOLDER, "classes": ["cat", "a/b"]}),
        "sources.tree.classes: invalid 'a/b': class ids of this kind are folder names",
        "remove the slash",
    ),
    "class that is a path": (
        all_of(
            put("sources.pets", {**PARQUET, "classes": ["cat", ".."]}),
            put("datasets.pets", {"source": "pets", "resolution": 8}),
        ),
        "class id '..': invalid as a folder name",
        "",
    ),
    "unknown classifier of a library": (
        put("students.s", {"arch": "torchvision/resnet81"}),
        "students.s.arch: ",
        "",
    ),
    "student too deep": (
        put("students.s.arch", "convnet4"),
        "students.s.arch: ",
        "must be at most convnet3",
    ),
    "teacher too deep": (
        put("teachers.t.arch", "convnet4"),
        "teachers.t.arch: ",
        "must be at most convnet3",
    ),
    "no learning rate for a student": (
        put("students.s", {"arch": "timm/resnet10t"}),
        "protocols.soft.learning_rate: missing in RDED's table for 'timm/resnet10t'",
        "set a number",
    ),
    "teacher lacks a class": (
        all_of(
            put("datasets.two", {"source": "digits", "classes": ["0", "2"], "resolution": 8}),
            put("teachers.t.dataset", "two"),
        ),
        "teachers.t.dataset: 'two' lacks class '1' of dataset 'three'",
        "set a dataset with all of its classes",
    ),
    "teacher of another resolution": (
        all_of(
            put("datasets.big", {"source": "digits", "resolution": 16}),
            put("teachers.t.dataset", "big"),
        ),
        "teachers.t.dataset: resolution 16 of 'big' conflicts with",
        "8 of dataset 'three', which the teacher is used for; they must be equal",
    ),
    "teacher of another source": (
        all_of(
            put("sources.pets", PARQUET),
            put("datasets.pets", {"source": "pets", "resolution": 8}),
            put("teachers.t.dataset", "pets"),
        ),
        "teachers.t.dataset: source 'pets' of 'pets' conflicts with",
        "'digits' of dataset 'three', which the teacher is used for; they must be equal",
    ),
    "weights without a checksum": (
        put("teachers.t.weights", {"file": "x.pth"}),
        "teachers.t.weights: must have file and sha256, or pretrained, not file",
        "remove or add keys",
    ),
    "weights of two kinds": (
        put("teachers.t.weights", {**FILE, "pretrained": "V1"}),
        "teachers.t.weights: must have file and sha256, or pretrained, not file and pretrained",
        "",
    ),
    "weights that an architecture lacks": (
        put("teachers.t", {"arch": "torchvision/resnet18", "weights": {"pretrained": "DEFAULT"}}),
        "teachers.t.weights.pretrained: ",
        "",
    ),
    "weights for classes that are not ImageNet's": (
        put(
            "teachers.t",
            {"arch": "torchvision/resnet18", "weights": {"pretrained": "IMAGENET1K_V1"}},
        ),
        "teachers.t.weights.pretrained: ",
        "'n01440764'",
    ),
    "crop with the larger area first": (
        put("teachers.t.crop", [1.0, 0.5]),
        "teachers.t.crop: must be [smaller, larger], not [1.0, 0.5]",
        "swap them",
    ),
    "crop of a group with the larger area first": (
        put("labels.soft.views", {"crop": [1.0, 0.5]}),
        "labels.soft.views.crop: must be [smaller, larger]",
        "swap them",
    ),
    "crop of a method with the larger area first": (
        put("methods.rded.crop", [1.0, 0.5]),
        "methods.rded.crop: must be [smaller, larger]",
        "swap them",
    ),
    "siamese operations and a mix": (
        put("labels.soft.views", {"siamese": {}}),
        "labels.soft.views.mix: cutmix conflicts with siamese",
        "set mix: none",
    ),
    "as many logits as classes": (
        put("labels.soft.encoding", "top3"),
        "labels.soft.encoding: top3 must be less than the 3 classes of dataset 'three'",
        "lower it, or set float16",
    ),
    "patches to shuffle that do not divide the image": (
        put("labels.soft.views", {"patches_per_side": 3}),
        "labels.soft.views.patches_per_side: 3 does not divide the 8 px of dataset 'three'",
        "set shuffle_patches: false, or a divisor",
    ),
    "patches that the views ignore": (
        put("methods.rded.patches_per_side", 2),
        "labels.soft.views.patches_per_side: 1 conflicts with method 'rded', whose images have 2",
        "set 2, or set both crop and shuffle_patches",
    ),
    "one teacher by two names": (
        all_of(
            lambda config: config["teachers"].update(
                u={**config["teachers"]["t"], "seed": 0, "dataset": "three", "min_accuracy": 9}
            ),
            put("labels.soft.teachers", ["t", "u"]),
        ),
        "labels.soft.teachers: 't' and 'u' are the same teacher",
        "remove one of them",
    ),
    "one file of weights by two names": (
        all_of(
            put("teachers.t", {"arch": "convnet1", "weights": {**FILE, "file": "a"}}),
            put("teachers.u", {"arch": "convnet1", "weights": {**FILE, "file": "b"}}),
            put("labels.soft.teachers", ["t", "u"]),
        ),
        "labels.soft.teachers: 't' and 'u' are the same teacher",
        "",
    ),
    "soft loss for hard labels": (
        put("protocols.hard.loss", "kl"),
        "protocols.hard.loss: kl conflicts with hard labels",
        "set ce",
    ),
    "hard loss for soft labels": (
        put("protocols.soft.loss", "ce"),
        "protocols.soft.loss: ce conflicts with soft labels",
        "set kl or mse_ce",
    ),
    "milestone after the end": (
        put(
            "protocols.soft",
            {"labels": "soft", "epochs": 2, "schedule": "multistep", "milestones": [1, 2]},
        ),
        "protocols.soft.milestones: 2 must be less than the epochs, 2",
        "lower it, or set a share below 1",
    ),
    "milestone of unknown epochs": (
        put(
            "protocols.soft",
            {"labels": "soft", "epochs": "auto", "schedule": "multistep", "milestones": [0.5, 3]},
        ),
        "protocols.soft.milestones: 3 must be less than the epochs, auto",
        "lower it, or set a share below 1",
    ),
    "IPC larger than a class": (
        put("experiments.x.ipc", [1, 117]),
        "experiments.x.ipc: must be at most 116 for method 'random', not 117",
        "the smallest class has 116 images; lower it",
    ),
    "IPC larger than a class after the holdout": (
        all_of(put("sources.digits.holdout", 0.5), put("experiments.x.ipc", [59])),
        "experiments.x.ipc: must be at most 58 for method 'random', not 59",
        "lower it",
    ),
    "IPC larger than the patches": (
        all_of(put(METHODS, ["rded"]), put("experiments.x.ipc", [21])),
        "experiments.x.ipc: must be at most 20 for method 'rded', not 21",
        "20 images per class give that many sets of 1 patches; lower it",
    ),
    "method twice": (
        put(METHODS, ["random", "rded", "random"]),
        "experiments.x.methods: duplicate method 'random'",
        "copy it to another name under methods",
    ),
    "method twice by an override": (
        put(METHODS, ["rded", {"rded": {"crops_per_image": 1}}]),
        "experiments.x.methods: duplicate method 'rded'",
        "",
    ),
    "override of an unknown method": (
        put(METHODS, [{"rdd": {"crop": [0.1, 1]}}]),
        "experiments.x.methods: unknown method 'rdd'",
        "did you mean 'rded'?",
    ),
    "override of an unknown key": (
        put(METHODS, [{"rded": {"corp": [0.1, 1]}}]),
        "experiments.x.methods.rded: unknown key 'corp'",
        "did you mean 'crop'?",
    ),
    "override out of range": (
        put(METHODS, [{"rded": {"crops_per_image": 0}}]),
        "experiments.x.methods.rded.crops_per_image: ",
        "",
    ),
}
# A change, and the setting without effect, with the reason.
WITHOUT_EFFECT = {
    "training of a loaded teacher": (
        put("teachers.t.weights", FILE),
        "teachers.t.batch_size: has no effect with weights",
    ),
    "seed of a loaded teacher": (
        put("teachers.t", {"arch": "convnet1", "seed": 0, "weights": FILE}),
        "teachers.t.seed: has no effect with weights",
    ),
    "scoring of patches that fill the teacher's input": (
        put("methods.rded.scoring", "resize"),
        "methods.rded.scoring: has no effect with patches_per_side: 1",
    ),
    "temperature of mse_ce": (
        put("protocols.soft", {"labels": "soft", "loss": "mse_ce", "temperature": 4}),
        "protocols.soft.temperature: has no effect with loss: mse_ce",
    ),
    "temperature of hard labels": (
        put("protocols.hard.temperature", 20),
        "protocols.hard.temperature: has no effect with loss: ce",
    ),
    "weight of the only loss": (
        put("protocols.soft.ce_weight", 0.1),
        "protocols.soft.ce_weight: has no effect with loss: kl",
    ),
    "smoothing": (
        put("protocols.soft.smoothing", 3),
        "protocols.soft.smoothing: has no effect with schedule: half_cosine, only with cosine or "
        "ssrs or linear",
    ),
    "milestones of a cosine": (
        all_of(put("protocols.soft.schedule", "cosine"), put("protocols.soft.milestones", [0.5])),
        "protocols.soft.milestones: has no effect with schedule: cosine, only with multistep",
    ),
    "alpha of no mix": (
        put("labels.soft.views", {"mix": "none", "mix_alpha": 1.0}),
        "labels.soft.views.mix_alpha: has no effect with mix: none",
    ),
    "area of padded views": (
        put("labels.soft.views", {"pad": 2, "crop": [0.5, 1]}),
        "labels.soft.views.crop: has no effect with pad: 2",
    ),
    "area of a padded teacher": (
        all_of(put("teachers.t.pad", 4), put("teachers.t.crop", [0.5, 1])),
        "teachers.t.crop: has no effect with pad: 4",
    ),
    "momentum of AdamW": (
        put("teachers.t.nesterov", False),
        "teachers.t.nesterov: has no effect with optimizer: adamw",
    ),
    "extent of no mix": (
        put("labels.hard", {"kind": "hard", "views": {"mix": "none", "mix_per": "batch"}}),
        "labels.hard.views.mix_per: has no effect with mix: none",
    ),
}


@pytest.mark.parametrize(("change", "start", "end"), WRONG.values(), ids=WRONG)
def test_a_wrong_config_is_an_error_of_one_line(tiny, change, start, end):
    change(tiny)
    message = refusal(tiny)
    assert message.startswith(start) and message.endswith(end)


@pytest.mark.parametrize(("change", "message"), WITHOUT_EFFECT.values(), ids=WITHOUT_EFFECT)
def test_a_setting_without_effect_is_an_error(tiny, change, message):
    change(tiny)
    assert refusal(tiny) == f"{message}; remove it"


@pytest.mark.parametrize(
    ("config", "key"),
    [(None, "the config"), ([], "the config"), ("sources", "the config"), ({}, "sources")],
)
def test_a_file_that_is_no_config_is_an_error_of_one_line(config, key):
    with pytest.raises(StillhouseError, match=rf"^x\.yaml: {key}: "):
        complete(config, "x.yaml")


def test_patches_may_differ_where_crop_and_shuffling_are_given(tiny):
    tiny["methods"]["rded"]["patches_per_side"] = 2
    views = {"crop": [0.5, 1.0], "shuffle_patches": False}
    tiny["labels"] |= {"soft": {**tiny["labels"]["soft"], "views": views}}
    tiny["labels"]["hard"] = {"kind": "hard", "views": views}
    complete(tiny, "x.yaml")


def test_settings_with_an_effect_are_valid(tiny):
    tiny["protocols"]["soft"] |= {"loss": "mse_ce", "ce_weight": 0.025}
    tiny["protocols"]["other"] = {"labels": "soft", "temperature": 4}
    tiny["labels"]["hard"] = {"kind": "hard", "views": {"mix": "mixup", "mix_alpha": 0.8}}
    tiny["teachers"]["u"] = {**tiny["teachers"]["t"], "seed": 1}
    tiny["labels"]["soft"]["teachers"] = ["t", "u"]
    tiny["students"]["s"]["arch"] = "convnet3"
    tiny["experiments"]["x"]["ipc"] = [20]
    complete(tiny, "x.yaml")
