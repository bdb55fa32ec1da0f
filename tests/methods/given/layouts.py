"""A small set of three classes in every layout that is read."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
import torch
from stillhouse.data.codecs import encode
from stillhouse.data.normalisation import PUBLISHED

CLASSES = ["0", "1", "2"]
IPC = 2
# Class of each row: not in order.
LABELS = np.array([2, 0, 1, 1, 0, 2])
MEAN, STD = (np.array(part, np.float32)[:, None, None] for part in PUBLISHED["cifar"])
SOFT = np.eye(3, dtype=np.float32)[LABELS] * 0.7 + 0.1


def pixels(side=8, seed=0):
    """Return the images, (6, 3, side, side) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (len(LABELS), 3, side, side), np.uint8)


def normalised(images):
    """Return images normalised as CIFAR's are in DC, float32."""
    return (images.astype(np.float32) / 255 - MEAN) / STD


def folders(root, names, encoding="png", images=None):
    """Write a folder per class with these names; return the root."""
    images = pixels() if images is None else images
    for row, label in enumerate(LABELS):
        folder = root / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        suffix = encoding.replace("jpeg", "jpg")
        path = folder / f"class{label:05d}_id{row:05d}.{suffix}"
        path.write_bytes(encode(images[row], encoding))
    return root


def rded(root):
    """Write RDED's layout, but PNG."""
    return folders(root / "rded", ["00000", "00001", "00002"])


def sre2l(root):
    """Write the layout of SRe2L, G-VBSM and EDC, but PNG."""
    return folders(root / "sre2l", ["new000", "new001", "new002"])


def class_ids(root):
    """Write a folder per class id."""
    return folders(root / "ids", CLASSES)


def parquet(root, labels=None, metadata=None, **columns):
    """Write a Parquet file in Hugging Face layout."""
    root.mkdir(exist_ok=True)
    images = [{"bytes": encode(image, "png"), "path": None} for image in pixels()]
    labels = LABELS.tolist() if labels is None else labels
    table = pa.table({"image": images, "label": labels, **columns})
    pq.write_table(table.replace_schema_metadata(metadata), root / "train.parquet")
    return root / "train.parquet"


def parquet_folder(root):
    """Write a folder of one Parquet file whose metadata name the classes in another order."""
    names = {"info": {"features": {"label": {"names": ["2", "1", "0"], "_type": "ClassLabel"}}}}
    labels = (2 - LABELS).tolist()
    return parquet(root / "parquet", labels, {"huggingface": json.dumps(names)}).parent


def npz(root, name="set.npz", **arrays):
    """Write an .npz file, channels last."""
    stored = {"images": pixels().transpose(0, 2, 3, 1), "labels": LABELS, **arrays}
    np.savez(root / name, **stored)
    return root / name


def npz_of_text(root):
    """Write an .npz file with class ids and normalised floats, compressed."""
    arrays = {"mean": MEAN.ravel(), "std": STD.ravel(), "labels": LABELS.astype(str)}
    np.savez_compressed(root / "text.npz", images=normalised(pixels()), **arrays)
    return root / "text.npz"


def tensors(root, **arrays):
    """Write a safetensors file."""
    stored = {"images": pixels(), "labels": LABELS, **arrays}
    safetensors.numpy.save_file(stored, root / "set.safetensors")
    return root / "set.safetensors"


def mtt(root, labels=LABELS, names=("images_best.pt", "labels_best.pt"), rate=None):
    """Write the two files of MTT and DATM; `rate` names a third one."""
    folder = root / "mtt"
    folder.mkdir(exist_ok=True)
    torch.save(torch.from_numpy(normalised(pixels())).requires_grad_(), folder / names[0])
    torch.save(torch.from_numpy(np.asarray(labels)), folder / names[1])
    torch.save(torch.zeros(3), folder / "images_500.pt")
    if rate:
        torch.save(torch.tensor(0.02), folder / rate)
    return folder


def ddranking(root):
    """Write the files that DD-Ranking loads: images, soft labels and a learning rate."""
    logits = np.log(SOFT)
    return mtt(root, logits, ("images.pt", "labels.pt"), "lr.pt")


def dc(root, runs=1):
    """Write the results of DC and DM, with accuracies as NumPy's floats."""
    pair = [torch.from_numpy(normalised(pixels())), torch.from_numpy(LABELS)]
    others = [[torch.zeros_like(pair[0]), pair[1]]] * (runs - 1)
    accuracies = {"ConvNet": [np.float64(0.5)]}
    path = root / "res_DC_CIFAR10_ConvNet_2ipc.pt"
    torch.save({"data": [*others, pair], "accs_all_exps": accuracies}, path)
    return path


LAYOUTS = (
    *(rded, sre2l, class_ids, parquet, parquet_folder, npz, npz_of_text, tensors),
    *(mtt, ddranking, dc),
)
