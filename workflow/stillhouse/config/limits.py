"""What a method or a denoiser can do: images a class, steps, sizes."""

from stillhouse.config import protocols
from stillhouse.data.sources import catalogue
from stillhouse.diffusion.settings import check_pretrained
from stillhouse.errors import StillhouseError
from stillhouse.methods.ddps.settings import patches_per_side
from stillhouse.methods.statistical_matching import fidelity
from stillhouse.networks.architectures import has_batchnorm


def check_diffusion(key, method, denoiser):
    """Refuse settings of a method that its denoiser's grid of timesteps has no room for."""
    if method["kind"] == "ddps":
        _check_patches(key, method, denoiser)
    if method["kind"] == "d3hr":
        _check_inversion(key, method)
    if method["kind"] == "d4m" and int(method["steps"] * method["strength"]) < 1:
        raise StillhouseError(
            f"{key}.strength: is {method['strength']:g}, which of {method['steps']} steps leaves "
            "none; should be more"
        )


def _check_patches(key, method, denoiser):
    low, high = method["timesteps"]
    if low >= high:
        raise StillhouseError(f"{key}.timesteps: is [{low:g}, {high:g}]; should begin lower")
    if method["patch"] != "whole":
        if denoiser["kind"] == "dit":
            raise StillhouseError(
                f"{key}.patch: is {method['patch']}, but a dit sees squares alone; should be "
                "whole, or the denoiser stable_diffusion"
            )
        if method["patch"] > denoiser["resolution"]:
            raise StillhouseError(
                f"{key}.patch: is {method['patch']}; should be at most the denoiser's resolution, "
                f"{denoiser['resolution']}"
            )
    if method["ranking"] == "score":
        return
    layers = denoiser["train"]["network"]["layers"] if "train" in denoiser else None
    if method["features"] == "dift" and layers is not None and method["layer"] >= layers:
        raise StillhouseError(
            f"{key}.layer: is {method['layer']}; the denoiser has {layers} layers, from 0"
        )
    if method["features"] == "clip":
        if "clip" not in method:
            raise StillhouseError(f"{key}: 'clip' is missing (features are CLIP's)")
        check_pretrained(f"{key}.clip", method["clip"])


def _check_inversion(key, method):
    steps, wanted = method["steps"], method["inversion_steps"]
    snapshots = method.get("snapshots", [wanted])
    if wanted not in snapshots:
        raise StillhouseError(
            f"{key}.snapshots: is {snapshots}; should have inversion_steps, {wanted}, among them"
        )
    if max(snapshots) >= steps:
        what = "inversion_steps" if wanted >= steps else "snapshots"
        raise StillhouseError(
            f"{key}.{what}: {max(snapshots)} of {steps} steps; should be fewer than all"
        )


def check_synthesis(config, key, method):
    """Refuse a synthesis that starts from nothing that there is, or that has nothing to match."""
    # An experiment's own variant may start from the method that it is a variant of.
    seen = [key.removeprefix("methods.")] if key.startswith("methods.") else []
    start = method.get("initial", "real")
    while start not in ("noise", "real"):
        if start not in config["methods"]:
            there = ", ".join(sorted(config["methods"].keys() - set(seen))) or "(there are none)"
            raise StillhouseError(
                f"{key}.initial: is {start!r}; should be noise, real, or one of the methods {there}"
            )
        if start in seen:
            way = " from ".join([*seen, start])
            raise StillhouseError(
                f"{key}.initial: goes round in a circle ({way}); one of them should begin with "
                "noise or real"
            )
        seen.append(start)
        start = config["methods"][start].get("initial", "real")
    decided = protocols.method(method)
    if (
        not any(decided["weights"][name] for name in ("cross_entropy", "densification"))
        and not (decided["kinds"])
    ):
        raise StillhouseError(f"{key}.weights: are all 0; one of them should be more")
    if decided["kinds"] == ["batchnorm"]:
        for name in method["observers"]:
            if not has_batchnorm(config["teachers"][name]):
                raise StillhouseError(
                    f"{key}.observers: {name!r} has no batch norm to match; should have norm "
                    "batch, or weights.convolution be above 0"
                )
    if decided["flatness"]["on"] == "statistics" and not decided["kinds"]:
        raise StillhouseError(
            f"{key}.flatness.on: is 'statistics', but the weights match none; should be another, "
            "or weights.batchnorm or weights.convolution be above 0"
        )


def check_ipc(config, key, experiment, name, method):
    """Refuse images per class that a method cannot have from the smallest class.

    Parameters
    ----------
    config : dict
    key : str
        Of the experiment.
    experiment : dict
    name : str
        Of the method.
    method : dict
        Its decided settings.
    """
    dataset = config["datasets"][experiment["dataset"]]
    smallest = catalogue.smallest_class(config["sources"][dataset["source"]])
    ipc, most, why = max(experiment["ipc"]), smallest, f"the smallest class has {smallest} images"
    nested = method.get("nested_in", ipc)
    if ipc > nested:
        raise StillhouseError(
            f"{key}.methods.{name}.nested_in: is {nested}; should be at least the IPC, {ipc}"
        )
    if method["kind"] == "rded":
        most, why = _rded_limit(f"{key}.methods.{name}", method, dataset["resolution"], smallest)
    if method["kind"] == "ddps":
        _check_patches_enough(f"{key}.methods.{name}", method, experiment["ipc"], smallest)
    # Statistics give as many images as are wanted.
    if nested > most and method["kind"] not in ("d3hr", *fidelity.SWITCHES):
        raise StillhouseError(
            f"{key}.ipc: is {nested}; method {name!r} can do {most} at most: {why}"
        )


def _rded_limit(key, method, resolution, smallest):
    side = method["patches_per_side"]
    if side > resolution:
        raise StillhouseError(
            f"{key}.patches_per_side: is {side}; images of {resolution} px have room for "
            f"{resolution} at most"
        )
    images, patches = min(method["images_per_class"], smallest), side**2
    most = images * min(method["patches_per_image"], method["crops_per_image"]) // patches
    return most, f"{images} images a class give that many sets of {patches} patches"


def _check_patches_enough(key, method, ipcs, smallest):
    images = method["images_per_class"]
    images = smallest if images == "all" else min(images, smallest)
    if method["ranking"] == "clusters" and method["clusters"] > images:
        raise StillhouseError(
            f"{key}.clusters: is {method['clusters']}; {images} images a class give {images} "
            "clusters at most"
        )
    patches = {ipc: patches_per_side(method["variant"], ipc, method["patch"]) ** 2 for ipc in ipcs}
    # Of the IPC that wants most: with four patches an image, a smaller one may.
    ipc = max(ipcs, key=lambda ipc: ipc * patches[ipc])
    if ipc * patches[ipc] > images:
        raise StillhouseError(
            f"{key}: IPC {ipc} takes {ipc * patches[ipc]} patches a class, one an image; there are "
            f"{images} images; lower the IPC, or have more images_per_class"
        )
