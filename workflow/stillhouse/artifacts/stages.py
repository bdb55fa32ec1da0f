"""Stages: kinds of stored artifacts, each declared in one place.

A stage of one method is declared in that method's ``method.py``; stages that several methods share
are declared here. `stillhouse.methods.registry.stages` returns all of them by name. Functions are
named as text, because the Snakefile imports this module.
"""

import functools
import importlib
from dataclasses import dataclass

# Takes a stage, and what its function takes.
LAUNCHER = "stillhouse.training.launcher:launched"


@dataclass(frozen=True)
class Work:
    """What one artifact, or one of its members, needs of any machine; estimated from settings.

    Parameters
    ----------
    multiply_adds, half_multiply_adds : float
        Of networks in float32 and in float16.
    steps : float
        Training steps, one after the other, each of which takes at least a machine's fixed time.
    pixels : float
        Of images that are read and decoded.
    held_bytes : float
        Data and weights in the machine's memory at once.
    activation_bytes : float
        Tensors of one batch inside a network, in the memory of the computing device.
    stored_bytes : float
        Files of the artifact.
    """

    multiply_adds: float = 0.0
    half_multiply_adds: float = 0.0
    steps: float = 0.0
    pixels: float = 0.0
    held_bytes: float = 0.0
    activation_bytes: float = 0.0
    stored_bytes: float = 0.0


@dataclass(frozen=True)
class Stage:
    """A kind of artifact and how it is computed.

    Parameters
    ----------
    name : str
        Its folder below ``results/`` and the name of its rule.
    version : int
        Part of every address of the stage; raised when its numbers change for the same settings.
    files : tuple of str
        Files of a complete artifact, or of each member; other stages read the first.
    function : str
        ``module:function``; the function takes ``(inputs, spec, context)`` and returns
        ``make(member, context)``, which returns the files of one artifact or member.
    description : str
        Noun phrase for lineages.
    member : str
        Unit that the artifact is stored per: ``class_id``, ``batch``, ``seed``, ``expert``,
        ``slice``, or any other word; empty for an artifact without members.
    cost : str
        Column of ``seconds_*`` that its time belongs to: teacher, denoiser, distill, label, train.
    on_device : bool
        Whether its jobs compute on the configured device and reserve a GPU.
    lowered : str
        Settings to lower when memory runs out, for the message.
    work : str
        ``module:function`` of the stage's cost formula, without torch: takes the artifact and
        `stillhouse.planning.sizes.Sizes`, returns the `Work` of one member, or of an artifact
        without members. Empty for one too small to count.
    distributed : bool
        Whether its trainings are shared by ``compute.processes`` processes.
    """

    name: str
    version: int
    files: tuple
    function: str
    description: str
    member: str = ""
    cost: str = "distill"
    on_device: bool = True
    lowered: str = "compute.batch_size"
    work: str = ""
    distributed: bool = False

    def load(self):
        """Import and return the stage's function."""
        return load_function(self.function)

    def launched(self):
        """Import and return a function like the stage's that several processes compute."""
        return functools.partial(load_function(LAUNCHER), self)


def load_function(text):
    """Import and return the function that ``module:function`` names."""
    module, _, name = text.partition(":")
    return getattr(importlib.import_module(module), name)


INDEX = Stage(
    "index",
    version=2,
    files=("index.parquet",),
    function="stillhouse.data.index:index",
    description="index of a source",
    on_device=False,
    work="stillhouse.planning.work:index",
)
IMAGES = Stage(
    "images",
    version=2,
    files=("images.parquet",),
    function="stillhouse.data.class_images:images",
    description="encoded images of a source",
    member="class_id",
    on_device=False,
    work="stillhouse.planning.work:images",
)
DATASET = Stage(
    "dataset",
    version=1,
    files=("dataset.json",),
    function="stillhouse.data.dataset:dataset",
    description="manifest of a dataset's images",
    on_device=False,
)
WHITENING = Stage(
    "whitening",
    version=1,
    files=("whitening.safetensors",),
    function="stillhouse.data.whitening:whitening",
    description="whitening of a dataset's images",
    on_device=False,
    work="stillhouse.planning.work:whitening",
)
TEACHER = Stage(
    "teacher",
    version=4,
    files=("model.safetensors", "metrics.json"),
    function="stillhouse.training.teachers:teacher",
    description="teacher",
    cost="teacher",
    lowered="batch_size of the teacher, or compute.batch_size",
    work="stillhouse.planning.work:teacher",
    distributed=True,
)
DENOISER = Stage(
    "denoiser",
    version=2,
    files=("denoiser.json",),
    function="stillhouse.diffusion.train_denoiser:denoiser",
    description="denoiser",
    cost="denoiser",
    lowered="train.autoencoder.batch_size or train.network.batch_size of the denoiser",
    work="stillhouse.planning.work:denoiser",
    distributed=True,
)
LATENTS = Stage(
    "latents",
    version=2,
    files=("latents.safetensors", "images.json"),
    function="stillhouse.diffusion.latents:latents",
    description="encoded latents of real images",
    member="class_id",
    work="stillhouse.planning.work:latents",
)
DECODED = Stage(
    "decode",
    version=2,
    files=("images.parquet",),
    function="stillhouse.diffusion.decode:decode",
    description="images sampled by a denoiser",
    member="class_id",
    work="stillhouse.planning.work:decode",
)
FEATURES = Stage(
    "features",
    version=3,
    files=("features.parquet",),
    function="stillhouse.methods.common.features:features",
    description="teacher features of images or patches",
    member="class_id",
    work="stillhouse.planning.work:features",
)
DISTILLED = Stage(
    "distilled",
    version=2,
    files=("images.parquet",),
    function="stillhouse.methods.distilled:distilled",
    description="distilled set",
    on_device=False,
    work="stillhouse.planning.work:distilled",
)
LABELS = Stage(
    "labels",
    version=5,
    files=("labels.parquet",),
    function="stillhouse.evaluation.soft_labels:labels",
    description="soft label table",
    cost="label",
    work="stillhouse.planning.work:labels",
)
STUDENTS = Stage(
    "students",
    version=4,
    files=("cell.json",),
    function="stillhouse.evaluation.students:students",
    description="student",
    member="seed",
    cost="train",
    lowered="batch_size of the protocol, or compute.batch_size",
    work="stillhouse.planning.work:students",
)
SHARED = (
    *(INDEX, IMAGES, DATASET, WHITENING, TEACHER, DENOISER, LATENTS, DECODED, FEATURES),
    *(DISTILLED, LABELS, STUDENTS),
)
# Versions of tables and figures, which have no addresses.
REPORT_VERSIONS = {"tables": 10, "figures": 10}
