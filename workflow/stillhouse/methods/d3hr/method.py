"""D3HR: groups of noise latents with the statistics of the inverted latents of a class.

Zhao et al., "Taming Diffusion for Dataset Distillation with High Representativeness", ICML 2025.
Facts: lin-zhao-resoLve/D3HR at 8ba351d, generation/; paper, equations 5 to 8 and appendix B.
"""

from stillhouse.artifacts.addresses import member_folder
from stillhouse.artifacts.stages import Stage
from stillhouse.artifacts.store import tensor_shape
from stillhouse.errors import StillhouseError
from stillhouse.methods.base import Figure, Method, Unused

INVERSION = Stage(
    "inversion",
    version=2,
    files=("inversion.safetensors", "quality.json"),
    function="stillhouse.methods.d3hr.inversion:inversion",
    description="inverted latents and their statistics",
    member="class_id",
    work="stillhouse.methods.d3hr.work:inversion",
)
SAMPLES = Stage(
    "samples",
    version=2,
    files=("samples.safetensors",),
    function="stillhouse.methods.d3hr.samples:samples",
    description="groups of sampled latents",
    member="class_id",
    work="stillhouse.methods.d3hr.work:samples",
)


def _latents(sets):
    """Return the inverted latents, and the groups drawn for each IPC."""
    drawn = {ipc: one.upstream["decoded"].upstream["start"] for ipc, one in sorted(sets.items())}
    samples = {f"samples_ipc{ipc}": (artifact, None) for ipc, artifact in drawn.items()}
    return {"inversion": (drawn[max(drawn)].upstream["inversion"], None), **samples}


class D3HR(Method):
    """Groups of latents that match the statistics of a class in the noise domain."""

    kind = "d3hr"
    papers = ("zhao2025taming",)
    stages = (INVERSION, SAMPLES)
    images = "stillhouse.methods.common.decoded_images:images_of_class"
    unlimited = True
    statistics_note = (
        "Statistics: mean and variance per class, from which sets of any size can be resampled "
        "with the denoiser, whose weights are not counted."
    )
    fidelity = {  # noqa: RUF012
        "code": {
            "inversion_start": "zero",
            "candidates": 100_000_000,
            "terms": "norm",
            "std": "own",
            "skewness": "members",
            "sampling_start": "next",
            "loss_weights": {"skewness": 0.1},
        },
        "paper": {
            "inversion_start": "clean",
            "candidates": 100_000,
            "terms": "squared",
            "std": "target",
            "skewness": "group",
            "sampling_start": "aligned",
            "loss_weights": {"skewness": 0.5},
        },
    }
    figures = (
        Figure(
            "latents",
            title="Latents before and after inversion",
            caption="latents",
            function="stillhouse.reporting.method_figures.latent_space:latent_space_figure",
            inputs=_latents,
            suffix="svg",
            extra=("csv",),
            numbers="stillhouse.reporting.method_figures.latent_space:number_table",
        ),
    )

    def unused(self, settings):
        """Return the settings of the inversion if noise is added instead."""
        if settings["noising"] == "forward":
            return [Unused({"inversion_start"}, "noising: forward")]
        return []

    def decide(self, settings):
        """Return settings with sorted snapshots, by default only `inversion_steps`."""
        snapshots = settings.get("snapshots", [settings["inversion_steps"]])
        return {**settings, "snapshots": sorted(snapshots)}

    def denoisers(self, settings):
        """Return the denoiser, by key."""
        return {"denoiser": [settings["denoiser"]]}

    def check(self, key, settings, config):
        """Raise a `StillhouseError` if snapshots are outside the grid or lack `inversion_steps`."""
        steps, start = settings["steps"], settings["inversion_steps"]
        snapshots = settings["snapshots"]
        if start not in snapshots:
            raise StillhouseError(
                f"{key}.snapshots: missing inversion_steps, {start}, in {snapshots}; add it"
            )
        if snapshots[-1] >= steps:
            name = "inversion_steps" if start >= steps else "snapshots"
            raise StillhouseError(
                f"{key}.{name}: must be less than steps, {steps}, not {snapshots[-1]}; lower it or "
                "raise steps"
            )

    def plan(self, task):
        """Return (upstream, settings) of the distilled set; add inversion, samples and images."""
        denoiser = task.denoiser()
        # Statistics depend on the class alone: no IPC and no seed in their address.
        names = ("steps", "snapshots", "guidance", "latents", "noising", "images_per_class")
        settings = {**task.only(*names), **denoiser.conditional}
        if "inversion_start" in task.settings:
            settings["start"] = task.settings["inversion_start"]
        snapshots = "-".join(map(str, task.settings["snapshots"]))
        upstream = {"latents": denoiser.latents("square"), "denoiser": denoiser.artifact}
        slug_parts = (denoiser.short_kind, f"steps{snapshots}")
        inversion = task.per_class(INVERSION, slug_parts, settings, upstream)
        names = ("variance", "sampler", "candidates", "terms", "std", "skewness", "loss_weights")
        settings = {"snapshot": task.settings["inversion_steps"], **task.only(*names, "draw_on")}
        slug_parts = (denoiser.short_kind, f"steps{task.settings['inversion_steps']}")
        upstream = {"inversion": inversion}
        start = task.per_class(SAMPLES, slug_parts, settings, upstream, ("ipc", "seed"))
        sampling = {
            "sampling": "from_noise",
            **task.only("steps", "guidance", "inversion_steps"),
            "start": task.settings["sampling_start"],
        }
        return {"decoded": denoiser.decode(start, sampling)}, task.only("encoding")

    def storage_bytes(self, spec):
        """Return the bytes of the statistics from which a set of any IPC can be sampled.

        Mean and variance of every class, float32 (section 6.7), without the weights of the
        denoiser, which all sets share.
        """
        inversion = spec["upstream"]["decoded"]["upstream"]["start"]["upstream"]["inversion"]
        classes = spec["settings"]["classes"]
        folder = member_folder(inversion["address"], INVERSION.member, classes[0])
        _, dimensions = tensor_shape(folder / INVERSION.files[0], "mean")
        return {"statistics_bytes": len(classes) * 2 * 4 * dimensions}
