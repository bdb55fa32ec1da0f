"""Wrong configs, each with the one line that it gets, and right ones that are almost wrong."""

import math

import pytest
from diffused import FOLDER as WEIGHTS
from diffused import HUB, with_denoisers
from stillhouse.config.load import complete
from stillhouse.errors import StillhouseError

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


def put(path, value):
    """Return a change of a config: `value` at a path of keys."""

    def change(config):
        *way, last = path.split(".")
        for step in way:
            config = config[step]
        config[last] = value

    return change


def drop(path):
    def change(config):
        *way, last = path.split(".")
        for step in way:
            config = config[step]
        del config[last]

    return change


def all_of(*changes):
    def change(config):
        for one in changes:
            one(config)

    return change


WRONG = {
    "unknown section": (put("teacher", {}), "the config: unknown key 'teacher'", "'teachers'"),
    "on without quotes": (
        put("methods.rded", {"kind": "rded", True: "logits"}),
        "methods.rded: name True should be text",
        "quotes around on",
    ),
    "unknown key": (
        put("teachers.t.learning_rat", 1),
        "teachers.t: unknown key 'learning_rat'",
        "did you mean 'learning_rate'?",
    ),
    "nothing like it": (put("students.s.zzz", 1), "students.s: unknown key 'zzz'", "arch, norm"),
    "unknown key of a kind": (
        put("methods.rded.crops_per_imag", 1),
        "methods.rded: unknown key 'crops_per_imag'",
        "did you mean 'crops_per_image'?",
    ),
    "key of another kind": (
        put("methods.random.crop", [0.1, 1]),
        "methods.random: unknown key 'crop'",
        "known are",
    ),
    "misspelt view": (
        put("labels.soft.views.fliip", 1),
        "labels.soft.views: unknown key 'fliip'",
        "did you mean 'flip'?",
    ),
    "more operations than there is room for": (
        put("labels.soft.views", {"randaugment": {"n": 9}}),
        "labels.soft.views.randaugment.n: is 9",
        "at most 8",
    ),
    "siamese operations and a mix": (
        put("labels.soft.views", {"siamese": {}}),
        "labels.soft.views.mix: is 'cutmix'",
        "beside siamese it should be none",
    ),
    "no siamese operation": (
        put("labels.soft.views", {"mix": "none", "siamese": {"operations": ["noise"]}}),
        "labels.soft.views.siamese.operations.0: is 'noise'",
        "color, crop, cutout, flip, scale, rotate",
    ),
    "missing section": (drop("protocols"), "the config: 'protocols' is missing", "students"),
    "missing key": (drop("datasets.three.resolution"), "datasets.three: 'resolution'", "[px]"),
    "missing key of a kind": (drop("methods.rded.teacher"), "methods.rded: 'teacher'", "missing"),
    "no kind": (put("methods.random", {}), "methods.random: 'kind' is missing", ""),
    "wrong kind": (put("methods.random.kind", "rdedd"), "methods.random.kind: is 'rdedd'", "rded"),
    "wrong kind of labels": (put("labels.soft.kind", "sof"), "labels.soft.kind: is 'sof'", "soft"),
    "empty section": (put("students", {}), "students: is {}", "should not be empty"),
    "section of nothing": (put("students", None), "students: is None", "type object"),
    "wrong type": (put("teachers.t.epochs", "ten"), "teachers.t.epochs: is 'ten'", "integer"),
    "fraction of an epoch": (put("teachers.t.epochs", 1.5), "teachers.t.epochs: is 1.5", "integer"),
    "truth for a number": (put("teachers.t.epochs", True), "teachers.t.epochs: is True", "integer"),
    "neither number nor auto": (
        put("protocols.soft.learning_rate", "fast"),
        "protocols.soft.learning_rate: is 'fast'",
        "'auto' or number",
    ),
    "number of an alternative": (
        put("protocols.soft.batch_size", 0),
        "protocols.soft.batch_size: is 0; should be at least 1 (images a step",
        "",
    ),
    "numbers for names": (
        put("datasets.three.classes", [0, 1]),
        "datasets.three.classes.0: is 0; should be of type string",
        "",
    ),
    "one class": (
        put("datasets.three.classes", ["0"]),
        "datasets.three.classes: is ['0']; should have at least 2 items (class ids",
        "",
    ),
    "width of a ResNet": (
        put("students.s", {"arch": "resnet18_modified", "width": 64}),
        "students.s: unknown key 'width'",
        "known are arch",
    ),
    "patches that the views do not know": (
        put("methods.rded.patches_per_side", 2),
        "views.patches_per_side: is 1, but method 'rded' makes images of 2",
        "should be 2",
    ),
    "list for a name": (put("experiments.x.dataset", ["three"]), "experiments.x.dataset", "string"),
    "name for a list": (put("experiments.x.ipc", 10), "experiments.x.ipc: is 10", "array"),
    "too small": (put("experiments.x.ipc", [0]), "experiments.x.ipc.0: is 0", "at least 1"),
    "too large": (put("teachers.t.flip", 1.5), "teachers.t.flip: is 1.5", "at most 1"),
    "on the open end": (put("sources.digits.holdout", 1), "sources.digits.holdout", "less than 1"),
    "not positive": (put("teachers.t.learning_rate", 0), "teachers.t.learning_rate", "more than 0"),
    "three numbers": (put("methods.rded.crop", [0.1, 0.5, 1]), "methods.rded.crop", "at most 2"),
    "one number": (put("methods.rded.crop", [0.1]), "methods.rded.crop", "at least 2"),
    "no choice": (put("teachers.t.optimizer", "adam"), "teachers.t.optimizer", "sgd, adamw"),
    "no architecture": (put("students.s.arch", "convnet9"), "students.s.arch", "convnet[1-6]"),
    "no encoding": (put("labels.soft.encoding", "top0"), "labels.soft.encoding: is 'top0'", "topK"),
    "twice": (put("experiments.x.seeds", [1, 1]), "experiments.x.seeds", "each value once"),
    "name with a slash": (put("students.a/b", {"arch": "convnet1"}), "students: is 'a/b'", "match"),
    "no device": (put("compute", {"device": "gpu"}), "compute.device: is 'gpu'", "auto"),
    "no source": (put("datasets.three.source", "digit"), "datasets.three.source", "'digits'"),
    "no class": (put("datasets.three.classes", ["0", "11"]), "datasets.three.classes: '11'", ""),
    "no dataset": (put("experiments.x.dataset", "thre"), "x.dataset: 'thre'", "'three'"),
    "no method": (put("experiments.x.methods", ["rdd"]), "experiments.x.methods: 'rdd'", "'rded'"),
    "no student": (put("experiments.x.students", ["z"]), "experiments.x.students: 'z'", "are s"),
    "no protocol": (
        put("experiments.x.protocols", ["sofft"]),
        "experiments.x.protocols: 'sofft'",
        "did you mean 'soft'?",
    ),
    "no labels": (put("protocols.hard.labels", "hart"), "protocols.hard.labels: 'hart'", "'hard'"),
    "no teacher of a method": (
        put("methods.rded.teacher", "zz"),
        "methods.rded.teacher: 'zz' is not among the teachers",
        "there are t",
    ),
    "no teacher of features": (
        put("methods.h", {"kind": "herding", "features": "pixel"}),
        "methods.h.features: 'pixel' is not among the teachers",
        "there are t",
    ),
    "override of a method": (
        put("experiments.x.methods", ["random", {"rded": {"crops_per_image": 0}}]),
        "tiny.yaml: experiments.x.methods.rded.crops_per_image: is 0",
        "at least 1",
    ),
    "nested in a smaller set": (
        put("methods.rded.nested_in", 1),
        "experiments.x.methods.rded.nested_in: is 1; should be at least the IPC, 2",
        "",
    ),
    "nested in a set that is too large": (
        put("methods.rded.nested_in", 21),
        "experiments.x.ipc: is 21; method 'rded' can do 20 at most",
        "",
    ),
    "no teacher of labels": (
        put("labels.soft.teachers", ["t", "zz"]),
        "labels.soft.teachers: 'zz' is not among the teachers",
        "there are t",
    ),
    "no dataset of a teacher": (
        put("teachers.t.dataset", "four"),
        "teachers.t.dataset: 'four' is not among the datasets",
        "there are three",
    ),
    "teacher lacks a class": (
        all_of(
            put("datasets.two", {"source": "digits", "classes": ["0", "2"], "resolution": 8}),
            put("teachers.t.dataset", "two"),
        ),
        "teachers.t.dataset: 'two' lacks class '1' of dataset 'three'",
        "all of its classes",
    ),
    "teacher sees other pixels": (
        all_of(
            put("datasets.big", {"source": "digits", "resolution": 16}),
            put("teachers.t.dataset", "big"),
        ),
        "teachers.t.dataset: 'big' has resolution 16",
        "has 8",
    ),
    "teacher knows another source": (
        all_of(
            put("sources.pets", PARQUET),
            put("datasets.pets", {"source": "pets", "resolution": 8}),
            put("teachers.t.dataset", "pets"),
        ),
        "teachers.t.dataset: 'pets' has source 'pets'",
        "has 'digits'",
    ),
    "IPC larger than a class": (
        put("experiments.x.ipc", [1, 117]),
        "experiments.x.ipc: is 117; method 'random' can do 116 at most",
        "the smallest class has 116 images",
    ),
    "IPC larger than a class after the holdout": (
        all_of(put("sources.digits.holdout", 0.5), put("experiments.x.ipc", [59])),
        "experiments.x.ipc: is 59; method 'random' can do 58 at most",
        "",
    ),
    "IPC larger than the patches": (
        all_of(put("experiments.x.methods", ["rded"]), put("experiments.x.ipc", [21])),
        "experiments.x.ipc: is 21; method 'rded' can do 20 at most",
        "20 images a class give that many sets of 1 patches",
    ),
    "IPC larger than the sets of patches": (
        all_of(
            put("experiments.x.methods", [{"rded": {"patches_per_side": 2}}]),
            put("experiments.x.ipc", [6]),
        ),
        "experiments.x.ipc: is 6; method 'rded' can do 5 at most",
        "sets of 4 patches",
    ),
    "student too deep": (
        put("students.s.arch", "convnet4"),
        "students.s.arch: is 'convnet4'",
        "must be at most convnet3",
    ),
    "teacher too deep": (
        put("teachers.t.arch", "convnet4"),
        "teachers.t.arch: 'convnet4' conflicts with 8 px",
        "must be at most convnet3",
    ),
    "student too small for its patches": (
        put("students.s", {"arch": "vit_patch16_512x10"}),
        "students.s.arch: 'vit_patch16_512x10' conflicts with the dataset's 8 px",
        "patches of 16 px do not divide",
    ),
    "student that wants larger images": (
        put("students.s", {"arch": "resnetap10"}),
        "students.s.arch: 'resnetap10' conflicts with the dataset's 8 px; it needs at least 16 px",
        "resnetap10",
    ),
    "no classifier of torchvision": (
        put("students.s", {"arch": "torchvision/resnet81"}),
        "students.s.arch: unknown classifier of torchvision: 'resnet81'",
        "similar are",
    ),
    "no classifier of timm": (
        put("teachers.t", {"arch": "timm/resnet18_modified"}),
        "teachers.t.arch: unknown classifier of timm: 'resnet18_modified'",
        "similar are",
    ),
    "no library": (
        put("students.s", {"arch": "keras/vgg11"}),
        "students.s.arch: is 'keras",
        "timm",
    ),
    "width of a library's network": (
        put("students.s", {"arch": "torchvision/resnet18", "width": 64}),
        "students.s: unknown key 'width'",
        "known are arch",
    ),
    "no norm": (
        put("students.s", {"arch": "resnetap10", "norm": "layer"}),
        "students.s.norm: is 'layer'",
        "batch, instance",
    ),
    "no learning rate for a student": (
        put("students.s", {"arch": "timm/resnet10t"}),
        "protocols.soft.learning_rate: is 'auto', but RDED's table has no rate for",
        "'timm/resnet10t' (student 's'); should be a number",
    ),
    "weights without checksum": (
        put("teachers.t.weights", {"file": "x.pth"}),
        "teachers.t.weights: has file;",
        "should have file and sha256, or pretrained",
    ),
    "weights of two kinds": (
        put("teachers.t.weights", {"file": "x", "sha256": "0" * 64, "pretrained": "V1"}),
        "teachers.t.weights: has file and pretrained and sha256",
        "or pretrained",
    ),
    "weights of none": (put("teachers.t.weights", {}), "teachers.t.weights: is {}", "not be empty"),
    "pretrained weights of no library": (
        put("teachers.t.weights", {"pretrained": "IMAGENET1K_V1"}),
        "teachers.t.weights.pretrained: 'IMAGENET1K_V1' conflicts with arch 'convnet1'",
        "file and sha256",
    ),
    "weights that an architecture has not": (
        put("teachers.t", {"arch": "torchvision/resnet18", "weights": {"pretrained": "DEFAULT"}}),
        "teachers.t.weights.pretrained: unknown weights of torchvision/resnet18: 'DEFAULT'",
        "IMAGENET1K_V1",
    ),
    "tag that an architecture has not": (
        put("teachers.t", {"arch": "timm/resnet10t", "weights": {"pretrained": "a1_in1k"}}),
        "teachers.t.weights.pretrained: unknown weights of timm/resnet10t: 'a1_in1k'",
        "c3_in1k",
    ),
    "weights for classes that are not ImageNet's": (
        put(
            "teachers.t",
            {"arch": "torchvision/resnet18", "weights": {"pretrained": "IMAGENET1K_V1"}},
        ),
        "teachers.t.weights.pretrained: unknown class '0'",
        "'n01440764'",
    ),
    "as many logits as classes": (
        put("labels.soft.encoding", "top3"),
        "labels.soft.encoding: is 'top3'",
        "has 3 classes",
    ),
    "smoothing of a schedule that has none": (
        put("protocols.soft.smoothing", 3),
        "protocols.soft.smoothing: has no meaning for schedule 'half_cosine'",
        "should not be there, or the schedule be cosine or ssrs",
    ),
    "milestones of a cosine": (
        all_of(put("protocols.soft.schedule", "cosine"), put("protocols.soft.milestones", [0.5])),
        "protocols.soft.milestones: has no meaning for schedule 'cosine'",
        "multistep",
    ),
    "decay of a schedule that has none": (
        all_of(put("protocols.soft.schedule", "ssrs"), put("protocols.soft.rate_decay", 0.5)),
        "protocols.soft.rate_decay: has no meaning for schedule 'ssrs'",
        "multistep or alrs",
    ),
    "milestone after the end": (
        all_of(
            put("protocols.soft.schedule", "multistep"), put("protocols.soft.milestones", [1, 2])
        ),
        "protocols.soft.milestones: has 2, but there are 2 epochs",
        "share below 1",
    ),
    "milestone of epochs not known": (
        put(
            "protocols.soft",
            {"labels": "soft", "epochs": "auto", "schedule": "multistep", "milestones": [0.5, 3]},
        ),
        "protocols.soft.milestones: has 3, but there are auto epochs",
        "share below 1",
    ),
    "soft loss for hard labels": (
        put("protocols.hard.loss", "kl"),
        "protocols.hard.loss: is 'kl'",
        "want ce",
    ),
    "hard loss for soft labels": (
        put("protocols.soft.loss", "ce"),
        "protocols.soft.loss: is 'ce'",
        "want kl or mse_ce",
    ),
    "training of a teacher that is loaded": (
        put("teachers.t.weights", {"file": "x.pth", "sha256": "0" * 64}),
        "teachers.t.batch_size: is given, but a teacher with weights is not trained",
        "leave it out",
    ),
    "seed of a teacher that is loaded": (
        put(
            "teachers.t",
            {"arch": "convnet1", "seed": 0, "weights": {"file": "x", "sha256": "0" * 64}},
        ),
        "teachers.t.seed: is given, but a teacher with weights is not trained",
        "leave it out",
    ),
    "temperature of mse_ce": (
        put("protocols.soft", {"labels": "soft", "loss": "mse_ce", "temperature": 4}),
        "protocols.soft.temperature: is given, but loss 'mse_ce' does not use it",
        "leave it out",
    ),
    "temperature of hard labels": (
        put("protocols.hard.temperature", 20),
        "protocols.hard.temperature: is given, but loss 'ce' does not use it",
        "leave it out",
    ),
    "weight of no cross-entropy": (
        put("protocols.soft.ce_weight", 0.1),
        "protocols.soft.ce_weight: is given, but loss 'kl' does not use it",
        "leave it out",
    ),
    "weight of the only loss": (
        put("protocols.hard.ce_weight", 0.025),
        "protocols.hard.ce_weight: is given, but loss 'ce' does not use it",
        "leave it out",
    ),
    "alpha of no mix": (
        put("labels.soft.views", {"mix": "none", "mix_alpha": 1.0}),
        "labels.soft.views.mix_alpha: is given, but mix 'none' does not use it",
        "leave it out",
    ),
    "extent of no mix": (
        put("labels.hard", {"kind": "hard", "views": {"mix": "none", "mix_per": "batch"}}),
        "labels.hard.views.mix_per: is given, but mix 'none' does not use it",
        "leave it out",
    ),
    "one teacher by two names": (
        all_of(
            lambda config: config["teachers"].update(
                u={**config["teachers"]["t"], "seed": 0, "dataset": "three", "min_accuracy": 9}
            ),
            put("labels.soft.teachers", ["t", "u"]),
        ),
        "labels.soft.teachers: 't' and 'u' are the same teacher by two names",
        "teachers that differ",
    ),
    "one file of weights by two names": (
        all_of(
            put("teachers.t", {"arch": "convnet1", "weights": {"file": "a", "sha256": "0" * 64}}),
            put("teachers.u", {"arch": "convnet1", "weights": {"file": "b", "sha256": "0" * 64}}),
            put("labels.soft.teachers", ["t", "u"]),
        ),
        "labels.soft.teachers: 't' and 'u' are the same teacher by two names",
        "",
    ),
    "class that is a path": (
        all_of(
            put("sources.pets", {**PARQUET, "classes": ["cat", ".."]}),
            put("datasets.pets", {"source": "pets", "resolution": 8}),
        ),
        "'..' cannot name a folder",
        "",
    ),
    "class with a line break": (
        all_of(
            put("sources.pets", {**PARQUET, "classes": ["cat", "a\nb"]}),
            put("datasets.pets", {"source": "pets", "resolution": 8}),
        ),
        "'a\\nb' cannot name a folder",
        "",
    ),
    "no published list": (
        put("datasets.three.classes", "imagenete"),
        "datasets.three.classes: 'imagenete' is not among the published lists of classes",
        "did you mean 'imagenette'?",
    ),
    "no published list of a source": (
        put("sources.tree", {**FOLDER, "classes": "imagenet1000"}),
        "sources.tree.classes: 'imagenet1000' is not among",
        "did you mean 'imagenet1",
    ),
    "published list of other classes": (
        put("datasets.three.classes", "imagenette"),
        "datasets.three.classes: 'n01440764' is not among the classes of the source",
        "",
    ),
    "all classes of a source": (
        put("sources.tree", {**FOLDER, "classes": "all"}),
        "sources.tree.classes: 'all' is not among",
        "imagenet1k",
    ),
    "folder without a root": (
        put("sources.tree", {k: v for k, v in FOLDER.items() if k != "root"}),
        "sources.tree: 'root' is missing",
        "shapes no artifact",
    ),
    "folder without sizes": (
        put("sources.tree", {k: v for k, v in FOLDER.items() if k != "smallest_class"}),
        "sources.tree: 'smallest_class' is missing",
        "[images]",
    ),
    "class that is no folder": (
        put("sources.tree", {**FOLDER, "classes": ["cat", "a/b"]}),
        "sources.tree.classes: 'a/b' cannot be the name of a folder",
        "names of folders",
    ),
    "split outside the root": (
        put("sources.tree", {**FOLDER, "test": "/elsewhere"}),
        "sources.tree.test: is '/elsewhere'",
        "below the root",
    ),
    "unknown set": (
        put("sources.c", {"kind": "torchvision", "set": "CIFAR1", "root": "c"}),
        "sources.c.set: is 'CIFAR1'",
        "CIFAR10, CIFAR100",
    ),
    "classes of a known set": (
        put("sources.c", {"kind": "torchvision", "set": "CIFAR10", "root": "c", "classes": "all"}),
        "sources.c: unknown key 'classes'",
        "",
    ),
    "Tiny-ImageNet without classes": (
        put("sources.tiny", {"kind": "tiny_imagenet", "root": "t"}),
        "sources.tiny: 'classes' is missing",
        "",
    ),
    "neither error nor skip": (
        put("sources.digits.on_bad_image", "ignore"),
        "sources.digits.on_bad_image: is 'ignore'",
        "error, skip",
    ),
    "IPC larger than a published set's class": (
        all_of(
            put("sources.c", {"kind": "torchvision", "set": "CIFAR100", "root": "c"}),
            put("datasets.three", {"source": "c", "classes": ["apple", "bee"], "resolution": 8}),
            put("experiments.x.ipc", [501]),
        ),
        "method 'random' can do 500 at most",
        "",
    ),
    "class twice": (
        put("sources.pets", {**PARQUET, "classes": ["cat", "cat"]}),
        "sources.pets.classes",
        "each value once",
    ),
    "source without sizes": (
        put("sources.pets", {k: v for k, v in PARQUET.items() if k != "smallest_class"}),
        "sources.pets: 'smallest_class' is missing",
        "[images]",
    ),
    "method twice": (
        put("experiments.x.methods", ["random", "rded", "random"]),
        "experiments.x.methods: 'random' is there twice",
        "",
    ),
    "method twice by an override": (
        put("experiments.x.methods", ["rded", {"rded": {"crops_per_image": 1}}]),
        "experiments.x.methods: 'rded' is there twice",
        "give one another name",
    ),
    "override of no method": (
        put("experiments.x.methods", [{"rdd": {"crop": [0.1, 1]}}]),
        "experiments.x.methods: 'rdd' is not among the methods",
        "did you mean 'rded'?",
    ),
    "override of an unknown key": (
        put("experiments.x.methods", [{"rded": {"corp": [0.1, 1]}}]),
        "methods.rded: unknown key 'corp'",
        "did you mean 'crop'?",
    ),
    "override out of range": (
        put("experiments.x.methods", [{"rded": {"crops_per_image": 0}}]),
        "methods.rded.crops_per_image: is 0",
        "at least 1",
    ),
    "override of the teacher": (
        put("experiments.x.methods", [{"rded": {"teacher": "zz"}}]),
        "experiments.x.methods.rded.teacher: 'zz' is not among the teachers",
        "",
    ),
    "two overrides in one": (
        put("experiments.x.methods", [{"rded": {}, "random": {}}]),
        "experiments.x.methods.0",
        "",
    ),
    "more patches than pixels": (
        all_of(
            put("datasets.three.resolution", 4),
            put("experiments.x.methods", [{"rded": {"patches_per_side": 8}}]),
            put("experiments.x.ipc", [1]),
            put("methods.rded.images_per_class", 100),
        ),
        "patches_per_side",
        "",
    ),
    "patches to shuffle that do not divide the image": (
        put("labels.soft.views", {"patches_per_side": 3}),
        "labels.soft.views",
        "3",
    ),
    "not a number": (
        put("teachers.t.learning_rate", math.nan),
        "teachers.t.learning_rate: is nan",
        "",
    ),
    "infinite": (put("teachers.t.learning_rate", math.inf), "teachers.t.learning_rate", ""),
    "crop back to front": (put("methods.rded.crop", [1.0, 0.5]), "methods.rded.crop", ""),
    "name that is a number": (
        lambda config: config["experiments"].update({1: config["experiments"]["x"]}),
        "experiments",
        "1",
    ),
}

OWN, METHODS = "denoisers.own", "experiments.x.methods"
TRAIN = f"{OWN}.train"
CLIP = {"hub": "someone/clip", "revision": "d" * 40}
# Wrong where denoisers and their methods are there: see `diffused.with_denoisers`.
WRONG_DIFFUSION = {
    "no denoiser": (
        put("methods.d3hr.denoiser", "owm"),
        "methods.d3hr.denoiser: 'owm' is not among the denoisers",
        "did you mean 'own'?",
    ),
    "no denoiser of an override": (
        put(METHODS, [{"d4m": {"denoiser": "zz"}}]),
        "experiments.x.methods.d4m.denoiser: 'zz' is not among the denoisers",
        "there are dit, own, sd",
    ),
    "method without a denoiser": (
        drop("methods.ddps.denoiser"),
        "methods.ddps: 'denoiser' is missing",
        "name of the denoiser",
    ),
    "teacher of a denoiser's method": (
        put("methods.d3hr.teacher", "t"),
        "methods.d3hr: unknown key 'teacher'",
        "known are",
    ),
    "denoiser of no kind": (
        put(f"{OWN}.kind", "unet"),
        "denoisers.own.kind: is 'unet'",
        "dit, stable_diffusion",
    ),
    "denoiser of no size": (drop(f"{OWN}.resolution"), "own: 'resolution' is missing", "[px]"),
    "misspelt denoiser": (
        put(f"{OWN}.precison", "float32"),
        "denoisers.own: unknown key 'precison'",
        "did you mean 'precision'?",
    ),
    "misspelt training": (
        put(f"{TRAIN}.network.width_", 8),
        "denoisers.own.train.network: unknown key 'width_'",
        "did you mean 'width'?",
    ),
    "trained and pretrained": (
        put(f"{OWN}.pretrained", WEIGHTS),
        "denoisers.own: has both of train and pretrained",
        "should have train or pretrained",
    ),
    "neither trained nor pretrained": (
        drop(TRAIN),
        "denoisers.own: has neither of train and pretrained",
        "should have train or pretrained",
    ),
    "Stable Diffusion that is not pretrained": (
        drop("denoisers.sd.pretrained"),
        "denoisers.sd: 'pretrained' is missing",
        "",
    ),
    "Stable Diffusion that is trained": (
        put("denoisers.sd.train", {}),
        "denoisers.sd: unknown key 'train'",
        "did you mean 'pretrained'?",
    ),
    "folder without digest": (
        put("denoisers.dit.pretrained", {"folder": "a", "revision": "c" * 40}),
        "denoisers.dit.pretrained: has folder and revision",
        "should have folder and sha256, or hub and revision",
    ),
    "hub without commit": (
        put("denoisers.sd.pretrained", {"hub": "a/b", "sha256": "0" * 64}),
        "denoisers.sd.pretrained: has hub and sha256",
        "should have folder and sha256, or hub and revision",
    ),
    "folder and hub": (
        put("denoisers.dit.pretrained", {**WEIGHTS, **HUB}),
        "denoisers.dit.pretrained: has folder and hub and revision and sha256",
        "should have folder and sha256, or hub and revision",
    ),
    "hub alone": (
        put("denoisers.sd.pretrained", {"hub": "a/b"}),
        "denoisers.sd.pretrained: is {'hub': 'a/b'}",
        "",
    ),
    "branch for a commit": (
        put("denoisers.sd.pretrained.revision", "main"),
        "denoisers.sd.pretrained.revision: is 'main'",
        "[0-9a-f]{40}",
    ),
    "address for a hub's id": (
        put("denoisers.sd.pretrained.hub", "https://hub.co/a/b"),
        "denoisers.sd.pretrained.hub: is 'https://hub.co/a/b'",
        "id on the Hugging Face hub",
    ),
    "digest that is none": (
        put("denoisers.dit.pretrained.sha256", "5" * 63),
        "denoisers.dit.pretrained.sha256: is '555",
        "[0-9a-f]{64}",
    ),
    "pretrained DiT without labels": (
        drop("denoisers.dit.labels"),
        "denoisers.dit: 'labels' is missing",
        "the label number of each class id, or a published list",
    ),
    "labels of no published list": (
        put("denoisers.dit.labels", "imagenet"),
        "denoisers.dit.labels: 'imagenet' is not among the published lists",
        "did you mean 'imagenet",
    ),
    "labels that are no numbers": (
        put("denoisers.dit.labels", {"0": -1, "1": 1}),
        "denoisers.dit.labels.0: is -1; should be at least 0",
        "",
    ),
    "labels without a class": (
        all_of(drop("denoisers.dit.labels.1"), put("methods.d3hr.denoiser", "dit")),
        "denoisers.dit.labels: has no number for class '1'",
        "should have one for every class",
    ),
    "labels of another list": (
        all_of(put("denoisers.dit.labels", "imagenette"), put("methods.d3hr.denoiser", "dit")),
        "denoisers.dit.labels: has no number for class '0'",
        "should have one for every class",
    ),
    "labels without a class of an override": (
        all_of(drop("denoisers.dit.labels.2"), put(METHODS, [{"ddps": {"denoiser": "dit"}}])),
        "denoisers.dit.labels: has no number for class '2'",
        "should have one for every class",
    ),
    "labels of a trained denoiser": (
        put(f"{OWN}.labels", {"0": 0, "1": 1, "2": 2}),
        "denoisers.own.labels: is given, but a denoiser trained here has no use",
        "leave it out",
    ),
    "seed of a pretrained denoiser": (
        put("denoisers.dit.seed", 0),
        "denoisers.dit.seed: is given, but a denoiser with pretrained weights has no use",
        "leave it out",
    ),
    "seed of Stable Diffusion": (put("denoisers.sd.seed", 0), "sd: unknown key 'seed'", "known"),
    "prompt of a transformer": (put(f"{OWN}.prompt", "{}"), "own: unknown key 'prompt'", "known"),
    "prompt without a place": (
        put("denoisers.sd.prompt", "a photo"),
        "denoisers.sd.prompt: is 'a photo'",
        "its name in place of {}",
    ),
    "channels in groups": (
        put(f"{TRAIN}.autoencoder.channels", [4, 5]),
        "denoisers.own.train.autoencoder.channels: has 5;",
        "norm_groups, 2",
    ),
    "channels in the default groups": (
        drop(f"{TRAIN}.autoencoder.norm_groups"),
        "denoisers.own.train.autoencoder.channels: has 4;",
        "norm_groups, 8",
    ),
    "side that levels do not divide": (
        put(f"{OWN}.resolution", 10),
        "denoisers.own.train: 2 levels and patches of 2 need a resolution that 4 divides",
        "it is 10",
    ),
    "side that patches do not divide": (
        put(f"{TRAIN}.network.patch_size", 3),
        "denoisers.own.train: 2 levels and patches of 3 need a resolution that 6 divides",
        "it is 8",
    ),
    "heads that do not divide the width": (
        put(f"{TRAIN}.network.heads", 3),
        "denoisers.own.train.network.width: is 8; should be a multiple of 3 heads",
        "",
    ),
    "timesteps back to front": (
        put("methods.ddps.timesteps", [0.7, 0.1]),
        "methods.ddps.timesteps: is [0.7, 0.1]",
        "should begin lower",
    ),
    "timesteps of no range": (
        put("methods.ddps.timesteps", [0.5, 0.5]),
        "methods.ddps.timesteps: is [0.5, 0.5]",
        "should begin lower",
    ),
    "patch of a transformer": (
        put("methods.ddps.patch", 8),
        "methods.ddps.patch: is 8, but a dit sees squares alone",
        "should be whole, or the denoiser stable_diffusion",
    ),
    "patch larger than the image": (
        put("methods.ddps", {"kind": "ddps", "denoiser": "sd", "patch": 65}),
        "methods.ddps.patch: is 65; should be at most the denoiser's resolution, 64",
        "",
    ),
    "patch too small": (
        put("methods.ddps", {"kind": "ddps", "denoiser": "sd", "patch": 4}),
        "methods.ddps.patch: is 4; should be at least 8",
        "[px]",
    ),
    "patch of an override": (
        put(METHODS, [{"ddps": {"patch": 8}}]),
        "experiments.x.methods.ddps.patch: is 8, but a dit sees squares alone",
        "",
    ),
    "no CLIP for its features": (
        put("methods.ddps.features", "clip"),
        "methods.ddps: 'clip' is missing",
        "CLIP",
    ),
    "CLIP without digest": (
        put(
            "methods.ddps",
            {
                "kind": "ddps",
                "denoiser": "own",
                "features": "clip",
                "clip": {"folder": "a", "revision": "c" * 40},
            },
        ),
        "methods.ddps.clip: has folder and revision",
        "should have folder and sha256, or hub and revision",
    ),
    "CLIP that nothing uses": (
        put("methods.ddps.clip", CLIP),
        "methods.ddps.clip: is given, but features 'dift' do not use it",
        "leave it out",
    ),
    **{
        f"{name} of CLIP's features": (
            put(
                "methods.ddps",
                {
                    **{"kind": "ddps", "denoiser": "own", "features": "clip", "clip": CLIP},
                    name: 1,
                },
            ),
            f"methods.ddps.{name}: is given, but features 'clip' do not use it",
            "leave it out",
        )
        for name in ("timestep", "layer", "ensemble")
    },
    **{
        f"{name} of a ranking by score": (
            all_of(put("methods.ddps.ranking", "score"), put(f"methods.ddps.{name}", value)),
            f"methods.ddps.{name}: is given, but ranking 'score' forms no clusters",
            "leave it out",
        )
        for name, value in {
            **{"clusters": 4, "clusters_used": 2, "features": "dift", "clip": CLIP},
            **{"timestep": 161, "layer": 1, "ensemble": 8},
        }.items()
    },
    "chunks of a fit to all": (
        all_of(put("methods.d4m.fit", "full"), put("methods.d4m.expand", 2)),
        "methods.d4m.expand: is given, but fit 'full' does not use it",
        "leave it out",
    ),
    "chunks of the paper's fit": (
        all_of(put("methods.d4m.fidelity", "paper"), put("methods.d4m.expand", 2)),
        "methods.d4m.expand: is given, but fit 'full' does not use it",
        "leave it out",
    ),
    "start of no inversion": (
        all_of(
            put("methods.d3hr.process", "diffusion"), put("methods.d3hr.inversion_start", "clean")
        ),
        "methods.d3hr.inversion_start: is given, but process 'diffusion' does not invert",
        "leave it out",
    ),
    "snapshots of other steps": (
        put("methods.d3hr.snapshots", [20, 30]),
        "methods.d3hr.snapshots: is [20, 30]; should have inversion_steps, 31, among them",
        "",
    ),
    "snapshot twice": (
        put("methods.d3hr.snapshots", [31, 31]),
        "methods.d3hr.snapshots: is [31, 31]; should have each value once",
        "",
    ),
    "all steps inverted": (
        put("methods.d3hr.inversion_steps", 50),
        "methods.d3hr.inversion_steps: 50 of 50 steps",
        "should be fewer than all",
    ),
    "a snapshot after the last step": (
        put("methods.d3hr.snapshots", [31, 50]),
        "methods.d3hr.snapshots",
        "should be fewer than all",
    ),
    "more inverted than there are": (
        put("methods.d3hr.steps", 30),
        "methods.d3hr.inversion_steps: 31 of 30 steps",
        "should be fewer than all",
    ),
    "strength that leaves no step": (
        all_of(put("methods.d4m.strength", 0.09), put("methods.d4m.steps", 10)),
        "methods.d4m.strength: is 0.09, which of 10 steps leaves none",
        "should be more",
    ),
    "too much strength": (
        put("methods.d4m.strength", 1.1),
        "methods.d4m.strength: is 1.1; should be at most 1",
        "",
    ),
    "more clusters than images": (
        put("methods.ddps.images_per_class", 31),
        "experiments.x.methods.ddps.clusters: is 32",
        "31 images a class give 31 clusters at most",
    ),
    "more clusters than a class": (
        put("methods.ddps.clusters", 117),
        "experiments.x.methods.ddps.clusters: is 117",
        "116 images a class give 116 clusters at most",
    ),
    "IPC larger than a class by DDPS": (
        all_of(put(METHODS, ["ddps"]), put("experiments.x.ipc", [117])),
        "experiments.x.methods.ddps: IPC 117 takes 117 patches a class",
        "there are 116 images; lower the IPC",
    ),
    "IPC larger than what DDPS looks at": (
        all_of(
            put(METHODS, ["ddps"]),
            put("methods.ddps.images_per_class", 40),
            put("experiments.x.ipc", [41]),
        ),
        "experiments.x.methods.ddps: IPC 41 takes 41 patches a class",
        "there are 40 images; lower the IPC",
    ),
    "IPC larger than the patches of DDPS": (
        all_of(put(METHODS, [{"ddps": {"variant": "concat"}}]), put("experiments.x.ipc", [1, 30])),
        "experiments.x.methods.ddps: IPC 30 takes 120 patches a class",
        "there are 116 images; lower the IPC",
    ),
    "small IPC, which DDPS makes of four": (
        all_of(
            put(
                METHODS,
                [
                    {
                        "ddps": {
                            **{"denoiser": "sd", "patch": 32, "images_per_class": 39},
                        }
                    }
                ],
            ),
            put("experiments.x.ipc", [10]),
        ),
        "experiments.x.methods.ddps: IPC 10 takes 40 patches a class",
        "there are 39 images; lower the IPC, or have more images_per_class",
    ),
    "IPC larger than a class by D4M": (
        all_of(put(METHODS, ["d4m"]), put("experiments.x.ipc", [117])),
        "experiments.x.ipc: is 117; method 'd4m' can do 116 at most",
        "the smallest class has 116 images",
    ),
    "a few images for statistics": (
        put("methods.d3hr.images_per_class", 1),
        "methods.d3hr.images_per_class: is 1; should be at least 2",
        "[images]",
    ),
    "weight of no term": (
        put("methods.d3hr.weights", {"kurtosis": 1}),
        "methods.d3hr.weights: unknown key 'kurtosis'",
        "known are mean, skewness, std",
    ),
}


def with_observers(config):
    """Put observers ``a``, ``b`` and methods that synthesise for them into a config."""
    for seed, name in enumerate("ab"):
        config["teachers"][name] = {"arch": "convnet1", "norm": "batch", "seed": seed}
    for kind in ("sre2l", "gvbsm", "edc"):
        config["methods"][kind] = {"kind": kind, "observers": ["a", "b"]}
        config["experiments"]["x"]["methods"].append(kind)
    return config


WRONG_SYNTHESIS = {
    "unknown observer": (
        put("methods.edc.observers", ["a", "bb"]),
        "methods.edc.observers: 'bb' is not among the teachers",
        "did you mean 'b'?",
    ),
    "no observer": (
        put("methods.edc.observers", []),
        "methods.edc.observers: is []",
        "should have at least 1 item",
    ),
    "observers left out": (
        drop("methods.edc.observers"),
        "methods.edc: 'observers' is missing",
        "names of the teachers",
    ),
    "observer twice": (
        put("methods.edc.observers", ["a", "b", "a"]),
        "methods.edc.observers: is ['a', 'b', 'a']; should have each value once",
        "",
    ),
    "teacher for observers": (
        put("methods.edc.teacher", "a"),
        "methods.edc: unknown key 'teacher'",
        "known are",
    ),
    "observer of another dataset": (
        all_of(
            put("datasets.two", {"source": "digits", "classes": ["0", "1"], "resolution": 8}),
            put("teachers.b.dataset", "two"),
        ),
        "teachers.b.dataset: 'two' lacks class '2' of dataset 'three'",
        "name a dataset that has all of its classes",
    ),
    "observer of an override": (
        put(METHODS, [{"edc": {"observers": ["c"]}}]),
        "experiments.x.methods.edc.observers: 'c' is not among the teachers",
        "there are a, b, t",
    ),
    "start from nothing that there is": (
        put("methods.edc.initial", "rdedd"),
        "methods.edc.initial: is 'rdedd'; should be noise, real, or one of the methods",
        "gvbsm, random, rded, sre2l",
    ),
    "temperature of SAM": (
        put("methods.edc.flatness", {"on": "sam", "temperature": 9}),
        "methods.edc.flatness.temperature: is given, but flatness 'sam' does not use it",
        "leave it out",
    ),
    "crop of views that are cut from a border": (
        put("methods.edc.statistics", {"pad": 2, "crop": [0.5, 1.0]}),
        "methods.edc.statistics.crop: is given, but",
        "leave it out",
    ),
    "tiles of convolutions that are not matched": (
        all_of(put("methods.edc.weights", {"convolution": 0}), put("methods.edc.tile", 2)),
        "methods.edc.tile: is given, but convolutions are not matched",
        "leave it out",
    ),
    "weights that are all zero": (
        put(
            "methods.edc.weights",
            {"cross_entropy": 0, "batchnorm": 0, "convolution": 0, "densification": 0},
        ),
        "methods.edc.weights: are all 0",
        "one of them should be more",
    ),
    "start from itself": (
        put("methods.edc.initial", "edc"),
        "methods.edc.initial: goes round in a circle (edc from edc)",
        "one of them should begin with noise or real",
    ),
    "start from each other": (
        all_of(put("methods.edc.initial", "gvbsm"), put("methods.gvbsm.initial", "edc")),
        "goes round in a circle (gvbsm from edc from gvbsm)",
        "one of them should begin with noise or real",
    ),
    "start from a set that cannot be": (
        all_of(put("methods.edc.initial", "rded"), put("experiments.x.ipc", [21])),
        "experiments.x.ipc: is 21; method 'rded' can do 20 at most",
        "20 images a class",
    ),
    "SRe2L without batch norms": (
        put("teachers.b.norm", "instance"),
        "methods.sre2l.observers: 'b' has no batch norm to match",
        "should have norm batch, or weights.convolution be above 0",
    ),
    "flatness of no layers": (
        put(
            "methods.sre2l",
            {
                **{"kind": "sre2l", "observers": ["a"], "weights": {"batchnorm": 0}},
                "flatness": {"on": "statistics"},
            },
        ),
        "methods.sre2l.flatness.on: is 'statistics', but the weights match none",
        "weights.batchnorm or weights.convolution be above 0",
    ),
    "flatness of something else": (
        put("methods.edc.flatness", {"on": "images"}),
        "methods.edc.flatness.on: is 'images'",
        "none, logits, statistics, sam",
    ),
    "crop from the large to the small": (
        put("methods.edc.crop", [0.9, 0.1]),
        "methods.edc.crop: is [0.9, 0.1]; the smaller area should come first",
        "",
    ),
    "crop of statistics from the large to the small": (
        put("methods.edc.statistics", {"crop": [0.9, 0.1]}),
        "methods.edc.statistics.crop: is [0.9, 0.1]; the smaller area should come first",
        "",
    ),
    "misspelt view of statistics": (
        put("methods.edc.statistics", {"padd": 4}),
        "methods.edc.statistics: unknown key 'padd'",
        "did you mean 'pad'?",
    ),
    "weight of something else": (
        put("methods.edc.weights", {"batch_norm": 1}),
        "methods.edc.weights: unknown key 'batch_norm'",
        "did you mean 'batchnorm'?",
    ),
    **{
        f"{key} out of range": (
            put(f"methods.edc.{key}", value),
            f"methods.edc.{key}: is {value}; should be",
            hint,
        )
        for key, value, hint in (
            ("alpha", 1.5, "at most 1"),
            ("momentum", 1, "less than 1"),
            ("convolution_dropout", 1, "less than 1"),
            ("iterations", 0, "at least 1"),
            ("learning_rate", 0, "more than 0"),
            ("tile", -1, "at least 0"),
            ("batch_size", 0, "at least 1"),
            ("jitter", 0.5, "integer"),
        )
    },
    **{
        f"{key} without use": (
            put(f"methods.{kind}", {"kind": kind, "observers": ["a", "b"], key: value, **given}),
            f"methods.{kind}.{key}: is given, but {why}",
            "leave it out",
        )
        for kind, key, value, given, why in (
            ("gvbsm", "class_terms", "classes", {}, "alpha 1 matches no classes"),
            ("gvbsm", "class_variance", "total", {}, "alpha 1 matches no classes"),
            ("gvbsm", "class_layers", "all", {}, "alpha 1 matches no classes"),
            ("edc", "tiles", "right", {"alpha": 1}, "alpha 1 matches no classes"),
            ("edc", "momentum_start", "first", {"momentum": 0}, "momentum 0 keeps nothing"),
            ("edc", "initial_draw", "distinct", {"initial": "noise"}, "initial 'noise' draws"),
            ("edc", "turns", "restart", {"observers": ["a"]}, "one observer takes every turn"),
        )
    },
}


def check_wrong(config, change, key, hint):
    change(config)
    with pytest.raises(StillhouseError) as caught:
        complete(config, "tiny.yaml")
    message = str(caught.value)
    assert message.startswith("tiny.yaml: ")
    assert key in message
    assert hint in message
    assert "\n" not in message
    assert len(message) < 400


@pytest.mark.parametrize(("change", "key", "hint"), WRONG.values(), ids=WRONG)
def test_a_wrong_config_gets_one_line(tiny, change, key, hint):
    check_wrong(tiny, change, key, hint)


@pytest.mark.parametrize(("change", "key", "hint"), WRONG_DIFFUSION.values(), ids=WRONG_DIFFUSION)
def test_a_wrong_denoiser_or_method_gets_one_line(tiny, change, key, hint):
    check_wrong(with_denoisers(tiny), change, key, hint)


@pytest.mark.parametrize(("change", "key", "hint"), WRONG_SYNTHESIS.values(), ids=WRONG_SYNTHESIS)
def test_a_wrong_synthesis_gets_one_line(tiny, change, key, hint):
    check_wrong(with_observers(tiny), change, key, hint)


def test_a_denoiser_where_there_are_none_is_named(tiny):
    tiny["methods"]["d3hr"] = {"kind": "d3hr", "denoiser": "own"}
    with pytest.raises(StillhouseError, match=r"'own' is not .*; there are none$"):
        complete(tiny, "x.yaml")


@pytest.mark.parametrize("config", [None, [], "sources", {}, 3])
def test_what_is_no_config_gets_one_line(config):
    with pytest.raises(StillhouseError, match=r"^x\.yaml: the config: "):
        complete(config, "x.yaml")


def test_patches_may_differ_where_crop_and_shuffling_are_said(tiny):
    tiny["methods"]["rded"]["patches_per_side"] = 2
    views = {"crop": [0.5, 1.0], "shuffle_patches": False}
    tiny["labels"] |= {"soft": {**tiny["labels"]["soft"], "views": views}}
    tiny["labels"]["hard"] = {"kind": "hard", "views": views}
    complete(tiny, "x.yaml")


def test_settings_that_something_uses_are_allowed(tiny):
    tiny["protocols"]["soft"] |= {"loss": "mse_ce", "ce_weight": 0.025}
    tiny["protocols"]["other"] = {"labels": "soft", "temperature": 4}
    tiny["labels"]["hard"] = {"kind": "hard", "views": {"mix": "mixup", "mix_alpha": 0.8}}
    tiny["teachers"]["u"] = {**tiny["teachers"]["t"], "seed": 1}
    tiny["labels"]["soft"]["teachers"] = ["t", "u"]
    complete(tiny, "x.yaml")


def test_a_convnet_that_just_fits_is_allowed(tiny):
    tiny["students"]["s"]["arch"] = "convnet3"
    tiny["experiments"]["x"]["ipc"] = [20]
    complete(tiny, "tiny.yaml")


def test_denoisers_and_methods_that_are_almost_wrong_are_allowed(tiny):
    with_denoisers(tiny)
    complete(tiny, "x.yaml")
    tiny["denoisers"]["sd"]["precision"] = "float16"
    tiny["denoisers"]["listed"] = {**tiny["denoisers"]["dit"], "labels": "imagenet1k"}
    # Numbers of more classes than the dataset has; of fewer, where nothing wants it.
    tiny["denoisers"]["dit"]["labels"]["9"] = 9
    tiny["methods"] |= {
        "d3hr": {"kind": "d3hr", "denoiser": "dit", "steps": 32, "snapshots": [5, 31]},
        "noised": {"kind": "d3hr", "denoiser": "sd", "process": "diffusion"},
        "patches": {"kind": "ddps", "denoiser": "sd", "patch": 64, "timesteps": [0, 1]},
        "clip": {"kind": "ddps", "denoiser": "sd", "features": "clip", "clip": CLIP},
        "score": {"kind": "ddps", "denoiser": "own", "ranking": "score", "images_per_class": 3},
        "d4m": {"kind": "d4m", "denoiser": "own", "steps": 10, "strength": 0.1, "expand": 3},
        "full": {"kind": "d4m", "denoiser": "own", "fit": "full"},
    }
    tiny["experiments"]["x"]["methods"] = list(tiny["methods"])
    complete(tiny, "x.yaml")


def test_labels_of_a_published_list_are_its_places(tiny):
    with_denoisers(tiny)["denoisers"]["dit"]["labels"] = "imagenet1k"
    labels = complete(tiny, "x.yaml")["denoisers"]["dit"]["labels"]
    assert list(labels.items())[:2] == [("n01440764", 0), ("n01443537", 1)]
    assert labels["n15075141"] == 999 and len(labels) == 1000


def test_what_nothing_uses_is_no_setting(tiny):
    with_denoisers(tiny)
    tiny["methods"]["score"] = {"kind": "ddps", "denoiser": "own", "ranking": "score"}
    tiny["methods"]["clip"] = {"kind": "ddps", "denoiser": "own", "features": "clip", "clip": CLIP}
    config = complete(tiny, "x.yaml")
    assert "seed" in config["denoisers"]["own"] and "seed" not in config["denoisers"]["dit"]
    clustering = {"clusters", "clusters_used", "features", "timestep", "layer", "ensemble"}
    assert clustering <= config["methods"]["ddps"].keys()
    assert not clustering & config["methods"]["score"].keys()
    assert clustering & config["methods"]["clip"].keys() == {
        "clusters",
        "clusters_used",
        "features",
    }


def test_syntheses_that_are_almost_wrong_are_allowed(tiny):
    complete(with_observers(tiny), "x.yaml")
    tiny["teachers"]["b"]["norm"] = "instance"
    tiny["methods"] |= {
        # An instance norm is an observer where convolutions are matched, or nothing at all.
        "sre2l": {"kind": "sre2l", "observers": ["b"], "weights": {"convolution": 0.01}},
        "bare": {"kind": "sre2l", "observers": ["b"], "weights": {"batchnorm": 0}},
        "gvbsm": {"kind": "gvbsm", "observers": ["b"], "initial": "edc", "alpha": 0.9},
        "edc": {"kind": "edc", "observers": ["b", "a"], "initial": "rded", "alpha": 0},
        "sharp": {"kind": "edc", "observers": ["a"], "flatness": {"on": "sam"}, "crop": [1, 1]},
    }
    tiny["experiments"]["x"]["methods"] = list(tiny["methods"])
    # As many as RDED can do, from whose set EDC starts.
    tiny["experiments"]["x"]["ipc"] = [20]
    complete(tiny, "x.yaml")
    for name in ("edc", "gvbsm", "rded"):
        tiny["experiments"]["x"]["methods"].remove(name)
    tiny["experiments"]["x"] |= {"methods": ["bare", "sharp", "sre2l"], "ipc": [500]}
    complete(tiny, "x.yaml")
