"""D4M: images decoded from cluster centres of the latents of a class, noised and denoised.

Su et al., "D⁴M: Dataset Distillation via Disentangled Diffusion Model", CVPR 2024. Facts:
suduo94/D4M at da35d10, gen_prototype.py, gen_syn_image.py.
"""

from stillhouse.artifacts.stages import Stage
from stillhouse.errors import StillhouseError
from stillhouse.methods.base import Method, Unused

PROTOTYPES = Stage(
    "prototypes",
    version=2,
    files=("prototypes.safetensors",),
    function="stillhouse.methods.d4m.prototypes:prototypes",
    description="centres of clustered latents",
    member="class_id",
    on_device=False,
    work="stillhouse.methods.d4m.work:prototypes",
)


class D4M(Method):
    """Cluster centres of the latents of a class, noised, denoised and decoded."""

    kind = "d4m"
    papers = ("su2024disentangled",)
    stages = (PROTOTYPES,)
    images = "stillhouse.methods.common.decoded_images:images_of_class"
    fidelity = {  # noqa: RUF012
        "code": {"fit": "partial", "scheduler": "own"},
        "paper": {"fit": "full", "scheduler": "ddim"},
    }

    def unused(self, settings):
        """Return the settings of mini-batches if all latents are fitted at once."""
        return [Unused({"expand"}, "fit: full")] if settings["fit"] == "full" else []

    def denoisers(self, settings):
        """Return the denoiser, by key."""
        return {"denoiser": [settings["denoiser"]]}

    def check(self, key, settings, config):
        """Raise a `StillhouseError` if the strength is less than one step."""
        steps, strength = settings["steps"], settings["strength"]
        if int(steps * strength) < 1:
            raise StillhouseError(
                f"{key}.strength: must be at least one of {steps} steps, not {strength:g}; raise "
                "strength or steps"
            )

    def plan(self, task):
        """Return (upstream, settings) of the distilled set; add prototypes and decoded images."""
        denoiser = task.denoiser()
        upstream = {"latents": denoiser.latents("square")}
        settings = task.only("latents", "fit", "expand")
        start = task.per_class(
            PROTOTYPES, (denoiser.short_kind,), settings, upstream, ("ipc", "seed")
        )
        sampling = {"sampling": "image_to_image", **task.only("steps", "guidance", "strength")}
        if task.settings["scheduler"] == "own":  # ddim, the older one, is left out of addresses
            sampling["scheduler"] = "own"
        return {"decoded": denoiser.decode(start, sampling)}, task.only("encoding")
