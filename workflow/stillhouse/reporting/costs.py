"""Storage and compute time of a cell: bytes of images, labels and statistics, seconds by stage."""

import functools
import math
from pathlib import Path

import pyarrow.compute as pc

from stillhouse.artifacts import store
from stillhouse.artifacts.addresses import member_folder
from stillhouse.methods import registry

# Of each of a learned label's values, one per class.
LEARNED_VALUE_BITS = 32
# -log2 of the precision ε of equation A4, that of float32 numbers.
PRECISION_BITS = 24
COSTS = ("teacher", "denoiser", "distill", "label", "train")
BETWEEN_DEVICES = "; "


class Measurements:
    """The measured columns of cells; files that cells share are read once."""

    def __init__(self):
        self._timing = functools.cache(store.read_timing)
        self._recognised = functools.cache(recognised)
        self._storage = {}

    def columns(self, spec):
        """Return the measured columns of a cell.

        Parameters
        ----------
        spec : dict
            The cell's ``spec.json``.

        Returns
        -------
        dict
            ``image_bytes``, ``statistics_bytes``, ``label_bytes``, ``image_bits_per_class``,
            ``label_bits_per_class``, ``seconds_*``, ``devices``, ``device`` and ``recognised``
            [%]. NaN where nothing is stored or a timing is missing.
        """
        distilled, labels = (spec["upstream"].get(name) for name in ("distilled", "labels"))
        stored = distilled or spec["upstream"]["images"]
        address = stored["address"]
        if address not in self._storage:
            self._storage[address] = (storage_bytes if distilled else training_bytes)(stored)
        storage, of_labels = self._storage[address], label_bits(spec)
        n_classes = len(stored["settings"]["classes"])
        return {
            **storage,
            "label_bytes": of_labels if math.isnan(of_labels) else math.ceil(of_labels / 8),
            "image_bits_per_class": 8 * storage["image_bytes"] / n_classes,
            "label_bits_per_class": of_labels / n_classes,
            **of_lineage(spec, self._timing),
            "device": (self._timing(Path(spec["address"])) or {}).get("device"),
            "recognised": self._recognised(labels["address"]) if labels else float("nan"),
        }


def storage_bytes(spec):
    """Return ``image_bytes`` and ``statistics_bytes`` of a distilled set.

    The bytes of the encoded images, and of the statistics from which sets of any IPC can be
    recomputed: NaN where the method (`Method.storage_bytes`) has none.
    """
    method = registry.method(spec["settings"]["kind"])
    return {
        "image_bytes": image_bytes(spec),
        "statistics_bytes": float("nan"),
        **method.storage_bytes(spec),
    }


def training_bytes(spec):
    """Return ``image_bytes`` and ``statistics_bytes`` of the training images of a dataset."""
    index = Path(spec["upstream"]["index"]["address"]) / "index.parquet"
    table = store.read_table(index, columns=["class_id", "split", "bytes"])
    classes = set(spec["settings"]["classes"])
    rows = table.filter(pc.equal(table["split"], "train")).to_pylist()
    total = sum(row["bytes"] for row in rows if row["class_id"] in classes)
    return {"image_bytes": total, "statistics_bytes": float("nan")}


def training_images(spec):
    """Return the number of training images of a dataset, from its manifest."""
    content = store.read_json(Path(spec["address"]) / "dataset.json")
    return sum(one["train"] for one in content["classes"])


def image_bytes(spec):
    """Return the bytes of a distilled set's encoded images."""
    table = store.read_table(Path(spec["address"]) / "images.parquet", columns=["image"])
    return sum(len(image["bytes"]) for image in table["image"].to_pylist())


def label_bits(spec):
    """Return the bits of all labels that a student is trained on.

    Soft labels: those of the table's file. Hard labels: log2 K per image, of K classes. Learned
    labels: a float32 per image and class. NaN for online labels, which are not stored.
    """
    kind, upstream = spec["settings"]["labels"]["kind"], spec["upstream"]
    if kind == "online":
        return float("nan")
    if "labels" in upstream:
        return 8 * (Path(upstream["labels"]["address"]) / "labels.parquet").stat().st_size
    if "distilled" not in upstream:
        n_classes, n_images = len(spec["settings"]["classes"]), training_images(upstream["images"])
    else:
        n_classes = len(upstream["distilled"]["settings"]["classes"])
        n_images = upstream["distilled"]["keys"]["ipc"] * n_classes
    return n_images * (
        n_classes * LEARNED_VALUE_BITS if kind == "learned" else math.log2(n_classes)
    )


def soft_label_bits_bound(n_classes, precision_bits=PRECISION_BITS):
    """Return an upper bound of the bits per soft label with ideal entropy coding.

    -log2 (K - 1)! - (K - 1) log2 ε: the logarithm of the number of cells of side ε in the simplex
    of probabilities of K classes. Bao et al., *Dataset Distillation as Data Compression: A
    Rate-Utility Perspective*, supplement, equation A4; 15,456 for K = 1,000 and ε = 2^-24.

    Parameters
    ----------
    n_classes : int
        K, at least 1.
    precision_bits : float
        -log2 ε.
    """
    log2_volume = -math.lgamma(n_classes) / math.log(2)
    return log2_volume + (n_classes - 1) * precision_bits


def raw_bits_per_class(resolution, ipc):
    """Return the bits per class of images stored as float32, three channels per pixel.

    The unit of published budgets: one image of 32 px has 12 kB (of 1,024 bytes), ten have 120 kB,
    50 have 600 kB; one of 128 px has 192 kB.
    """
    return 32 * 3 * resolution**2 * ipc


def recognised(address):
    """Return the share of a set's images that the teachers of its soft labels recognise [%].

    Read from the metadata of the soft label table at an address; NaN if it has none.
    """
    table = store.open_row_groups(Path(address) / "labels.parquet")
    return float((table.schema_arrow.metadata or {}).get(b"recognised", b"nan"))


def upstream_parts(spec):
    """Yield (name, spec) of all direct upstream artifacts, lists in order."""
    for name, part in spec["upstream"].items():
        for artifact in part if isinstance(part, list) else [part]:
            yield name, artifact


def distinct(specs):
    """Return the specs of artifacts and of everything upstream, each address once."""
    by_address, waiting = {}, list(specs)[::-1]
    while waiting:
        spec = waiting.pop()
        if by_address.setdefault(spec["address"], spec) is spec:
            waiting += [part for _, part in upstream_parts(spec)][::-1]
    return list(by_address.values())


def lineage(spec):
    """Return {folder: cost} of an artifact and everything upstream, each once.

    Per-class artifacts count for the classes that the downstream artifact needs, others for all
    members. The cost is that of the stage (`COSTS`); artifacts that only the training of a teacher
    or a denoiser needs count for this teacher or denoiser.
    """
    costs, stages = {}, registry.stages()

    def walk(spec, folders, classes, cost):
        stage, classes = stages[spec["stage"]], spec["settings"].get("classes", classes)
        if stage.cost != "distill" or cost not in ("teacher", "denoiser"):
            cost = stage.cost
        for folder in folders:
            if costs.setdefault(folder, cost) in ("teacher", "denoiser"):
                costs[folder] = cost
        for _, part in upstream_parts(spec):
            folders = _folders(part, stages[part["stage"]].member, classes)
            walk(part, folders, classes, cost)

    walk(spec, [Path(spec["address"])], (), "distill")
    return costs


def _folders(spec, member, classes):
    """Return the folders of an artifact, or of the members that the downstream one needs."""
    if not member or member in spec["keys"]:
        return [Path(spec["address"])]
    if member == "class_id":
        members = spec["settings"].get("classes", classes)
    else:
        members = range(spec["members"])
    return [member_folder(spec["address"], member, one) for one in members]


def of_lineage(spec, timing):
    """Return the ``seconds_*`` columns and ``devices``: the full lineage, as if computed alone.

    `timing` maps a folder to its ``timing.json``; where one is missing, its column is NaN. So is
    that of the distillation with a set that was made elsewhere. Devices are those of the timings
    that have one, as text, see `device_names`.
    """
    totals, devices = dict.fromkeys(COSTS, 0.0), set()
    for folder, cost in lineage(spec).items():
        of_folder = timing(folder) or {}
        totals[cost] += of_folder.get("seconds", float("nan"))
        devices.add(of_folder.get("device", ""))
    if any(_made_elsewhere(one) for one in distinct([spec])):
        totals["distill"] = float("nan")
    seconds = {f"seconds_{name}": round(total, 3) for name, total in totals.items()}
    return {**seconds, "devices": BETWEEN_DEVICES.join(device_names(devices))}


def device_names(texts):
    """Return the distinct names of devices in texts of the column ``devices``, sorted."""
    return sorted({name for text in texts for name in text.split(BETWEEN_DEVICES)} - {""})


def _made_elsewhere(spec):
    """Return whether an artifact is a set that was made elsewhere."""
    return spec["stage"] == "distilled" and registry.method(spec["settings"]["kind"]).elsewhere
