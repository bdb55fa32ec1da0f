"""Cost formulas of the stages that methods share; those of methods are beside their stages.

Without torch, because rules ask for them.
"""

from math import ceil

from stillhouse.artifacts.stages import Work
from stillhouse.data.sources import catalogue
from stillhouse.planning.sizes import PRETRAINED_BYTES, trained_denoiser_passes

# Of a view in a label table, compressed, and of the scale of its logits; an assumption.
VIEW_BYTES, SCALE_BYTES = 8, 4


def index(artifact, sizes):
    """Every image is read, hashed and decoded."""
    n_classes = len(catalogue.classes(sizes.source(artifact)))
    count = (sizes.per_class(artifact) + sizes.tests_per_class(artifact)) * n_classes
    pixels = sizes.decoded(count, sizes.side(artifact))
    return Work(pixels=pixels, held_bytes=2500 * count, stored_bytes=120 * count)


def images(artifact, sizes):
    """A class is read and stored as it is; images of folders are not copied."""
    count = sizes.per_class(artifact) + sizes.tests_per_class(artifact)
    pixels = sizes.decoded(count, sizes.side(artifact))
    copied = 0 if catalogue.by_reference(sizes.source(artifact)) else 2 * sizes.side(artifact) ** 2
    return Work(pixels=pixels, stored_bytes=count * (100 + copied))


def teacher(artifact, sizes):
    """Epochs over the training split; or weights that are loaded."""
    settings = artifact.settings
    resolution, stored = settings["resolution"], 4e6 + 400 * len(settings["classes"])
    n_classes = len(settings["classes"])
    count, tested = (
        n * n_classes for n in (sizes.per_class(artifact), sizes.tests_per_class(artifact))
    )
    test_bytes = sizes.held(tested, resolution)
    if "epochs" not in settings:
        return Work(
            multiply_adds=tested * sizes.network(settings, resolution),
            pixels=sizes.decoded(tested, resolution),
            held_bytes=test_bytes,
            stored_bytes=stored,
        )
    shown = settings["epochs"] * count
    return Work(
        multiply_adds=sizes.trained(shown * sizes.network(settings, resolution)),
        steps=shown / settings["batch_size"],
        pixels=sizes.decoded(count + tested, resolution),
        held_bytes=sizes.split_bytes(artifact, resolution, settings["classes"]) + test_bytes,
        activation_bytes=sizes.trained_bytes(settings["batch_size"], resolution),
        stored_bytes=stored,
    )


def denoiser(artifact, sizes):
    """Training of an autoencoder, then of a noise predictor; or weights that are checked."""
    settings = artifact.settings
    if "train" not in settings:
        return Work(held_bytes=PRETRAINED_BYTES)
    pass_, half = trained_denoiser_passes(settings)
    autoencoder, network = (settings["train"][name] for name in ("autoencoder", "network"))
    steps = autoencoder["steps"], network["steps"]
    shown = [n * part["batch_size"] for n, part in zip(steps, (autoencoder, network), strict=True)]
    largest = max(autoencoder["batch_size"], network["batch_size"])
    count = sizes.per_class(artifact) * len(settings["classes"])
    # Mean and deviation of each view as float32, and their scaled copies.
    latent_bytes = 2 * 2 * 4 * (1 + network["flip"]) * count * sizes.latent_numbers(artifact)
    return Work(
        multiply_adds=sizes.trained(shown[0] * 2 * half + shown[1] * pass_),
        steps=sum(steps),
        pixels=sizes.decoded(count, settings["resolution"]),
        held_bytes=sizes.held(count, settings["resolution"]) + latent_bytes,
        activation_bytes=sizes.trained_bytes(largest, settings["resolution"]),
        stored_bytes=4 * (12 * network["width"] ** 2 * network["layers"]) + 5e6,
    )


def latents(artifact, sizes):
    """A class is encoded; mean and deviation of its latents are stored."""
    part, count = artifact.upstream["denoiser"], sizes.per_class(artifact)
    numbers = count * 2 * sizes.latent_numbers(part)
    pixels = sizes.decoded(count, part.settings["resolution"])
    return sizes.denoiser_work(part, encoded=count, pixels=pixels, stored_bytes=4 * numbers)


def decode(artifact, sizes):
    """IPC images of a class are sampled with guidance, in two passes per step, and decoded."""
    settings, ipc = artifact.settings, artifact.keys["ipc"]
    n_steps = settings.get("inversion_steps") or settings["steps"] * settings["strength"]
    part = artifact.upstream["denoiser"]
    size = 3 * part.settings["resolution"] ** 2
    passes = ipc * 2 * n_steps
    return sizes.denoiser_work(part, passes, decoded=ipc, stored_bytes=ipc * size)


def features(artifact, sizes):
    """A class passes the teacher once."""
    part, count = artifact.upstream["teacher"], sizes.per_class(artifact)
    side = part.settings["resolution"]
    return Work(
        multiply_adds=count * sizes.passes([part], side),
        pixels=sizes.decoded(count, side),
        activation_bytes=sizes.batch_bytes(side),
        stored_bytes=count * 2000,
    )


def distilled(artifact, sizes):
    """The images of all classes are collected."""
    side = artifact.settings["resolution"]
    size = sizes.n_images(artifact) * 3 * side**2
    pixels = sizes.decoded(sizes.n_images(artifact), side)
    return Work(pixels=pixels, held_bytes=size, stored_bytes=size + 20e3)


def labels(artifact, sizes):
    """Teachers pass every view of every epoch once; logits are stored as the encoding has them."""
    part, settings = artifact.upstream["distilled"], artifact.settings
    side, views = part.settings["resolution"], settings["epochs_stored"] * sizes.n_images(part)
    n_classes = len(part.settings["classes"])
    view_bytes = VIEW_BYTES if settings.get("views_stored", True) else 0
    row_bytes = view_bytes + logit_bytes(settings["encoding"], n_classes)
    return Work(
        multiply_adds=views * sizes.passes(artifact.upstream["teachers"], side),
        held_bytes=sizes.n_images(part) * (3 * side**2 + 8 * n_classes),
        activation_bytes=sizes.batch_bytes(side),
        stored_bytes=views * row_bytes,
    )


def logit_bytes(encoding, n_classes):
    """Return the bytes of the logits of a view: float16, integers of 2 to 8 bits, or the top K."""
    if encoding.startswith("top"):
        return 4 * min(int(encoding.removeprefix("top")), n_classes)
    if encoding == "float16":
        return 2 * n_classes
    return SCALE_BYTES + n_classes * int(encoding.removeprefix("int")) / 8


def whitening(artifact, sizes):
    """The products of all values of an image are summed, in float64."""
    settings = artifact.settings
    side, n_classes = settings["resolution"], len(settings["classes"])
    count, numbers = sizes.per_class(artifact) * n_classes, 3 * side**2
    return Work(
        multiply_adds=count * numbers**2 + 10 * numbers**3,
        pixels=sizes.decoded(count, side),
        held_bytes=sizes.split_bytes(artifact, side, settings["classes"]) + 4 * 8 * numbers**2,
        stored_bytes=4 * numbers**2,
    )


def students(artifact, sizes):
    """Epochs over the training images, and with online labels the teachers beside; tests."""
    settings = artifact.settings
    data = artifact.upstream["distilled"].settings if "distilled" in artifact.upstream else settings
    side, classes = data["resolution"], data["classes"]
    n_epoch, n_decoded, train_bytes = _training_images(artifact, sizes, side, len(classes))
    batch, epochs = settings["labels"]["batch_size"], settings["training"]["epochs"]
    work = sizes.trained(sizes.network(settings["network"], side))
    if settings["labels"]["kind"] == "online":
        work += sizes.passes(artifact.upstream["teachers"], side)
    n_tests = sizes.tests_per_class(artifact) * len(classes)
    return Work(
        multiply_adds=epochs * n_epoch * work,
        steps=epochs * ceil(n_epoch / batch),
        pixels=sizes.decoded(n_tests + n_decoded, side),
        held_bytes=sizes.held(n_tests, side) + train_bytes,
        activation_bytes=max(sizes.trained_bytes(batch, side), sizes.batch_bytes(side)),
        stored_bytes=100 * epochs,
    )


def _training_images(artifact, sizes, side, n_classes):
    """Return images of an epoch, images that are decoded, and bytes in memory, of students."""
    if "distilled" in artifact.upstream:
        count = sizes.n_images(artifact.upstream["distilled"])
        return count, 0, count * 3 * side**2
    count = sizes.per_class(artifact) * n_classes
    return artifact.settings.get("images_per_epoch", count), count, sizes.held(count, side)
