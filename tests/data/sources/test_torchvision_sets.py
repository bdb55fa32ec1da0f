"""Files in the sets' own formats, tiny ones, through torchvision's own loaders.

The published MD5 sums, which other files cannot have, are replaced in this file only.
"""

import hashlib
import io
import os
import pickle
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image as Pillow
from stillhouse.artifacts import jobs
from stillhouse.artifacts.addresses import Artifact
from stillhouse.artifacts.stages import INDEX
from stillhouse.data.sources import catalogue
from stillhouse.data.sources.registry import open_source
from stillhouse.errors import StillhouseError

datasets = pytest.importorskip("torchvision.datasets")


def settings(name, holdout=0.0):
    source = {"kind": "torchvision", "name": "small", "set": name, "holdout": holdout}
    return {**source, "on_bad_image": "error"}


def images(name, root, wanted=None, download=False, holdout=0.0):
    source = open_source(settings(name, holdout), {}, root, download)
    return list(source.images(set(wanted or catalogue.classes(settings(name)))))


def pixels(image):
    return np.asarray(Pillow.open(io.BytesIO(image.data)))


def dump(path, value):
    """Write a pickle and return [its name, its MD5]."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(value))
    return [path.name, hashlib.md5(path.read_bytes()).hexdigest()]


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    """CIFAR-10 of two training batches of three images and a test batch of two."""
    loader, folder = datasets.CIFAR10, tmp_path / datasets.CIFAR10.base_folder
    rng = np.random.default_rng(0)
    parts = {"data_batch_1": [3, 0, 9], "data_batch_2": [0, 1, 2], "test_batch": [9, 0]}
    data = {name: rng.integers(0, 256, (len(ls), 3072), np.uint8) for name, ls in parts.items()}
    written = [dump(folder / n, {"data": data[n], "labels": ls}) for n, ls in parts.items()]
    names = list(catalogue.classes(settings("CIFAR10")))
    meta = dump(folder / "batches.meta", {"label_names": names})
    monkeypatch.setattr(loader, "train_list", written[:2])
    monkeypatch.setattr(loader, "test_list", written[2:])
    monkeypatch.setattr(loader, "meta", {**loader.meta, "md5": meta[1]})
    return tmp_path, data


def test_pixels_of_cifar10_are_unchanged(cifar10):
    root, data = cifar10
    actual = images("CIFAR10", root)
    assert [image.class_id for image in actual] == [
        *("cat", "airplane", "truck", "airplane", "automobile", "bird", "truck", "airplane"),
    ]
    assert [image.image_id for image in actual[:2]] == ["train-0000000", "train-0000001"]
    assert actual[6].image_id == "test-0000000"
    assert [image.split for image in actual] == ["train"] * 6 + ["test"] * 2
    planes = np.concatenate(list(data.values())).reshape(-1, 3, 32, 32)
    for image, wanted in zip(actual, planes, strict=True):
        np.testing.assert_array_equal(pixels(image), wanted.transpose(1, 2, 0))


def test_ids_do_not_depend_on_the_classes_wanted(cifar10):
    root, _ = cifar10
    by_id = {image.image_id: image for image in images("CIFAR10", root)}
    airplanes = images("CIFAR10", root, ["airplane"])
    assert [image.image_id for image in airplanes] == [
        *("train-0000001", "train-0000003", "test-0000001"),
    ]
    assert all(by_id[image.image_id] == image for image in airplanes)


def test_a_file_that_is_not_the_published_one_is_not_unpickled(cifar10, monkeypatch):
    root, _ = cifar10
    path = root / datasets.CIFAR10.base_folder / "data_batch_2"
    path.write_bytes(path.read_bytes() + b"x")
    monkeypatch.setattr(pickle, "load", None)
    with pytest.raises(StillhouseError, match="torchvision cannot load CIFAR10 ") as e:
        images("CIFAR10", root)
    assert "sources.small.download: true" in str(e.value)
    assert "\n" not in str(e.value)
    assert "download=True" not in str(e.value)


def test_classes_in_another_order_are_an_error(cifar10, monkeypatch):
    root, _ = cifar10
    names = list(catalogue.classes(settings("CIFAR10")))[::-1]
    meta = dump(root / datasets.CIFAR10.base_folder / "batches.meta", {"label_names": names})
    monkeypatch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": meta[1]})
    with pytest.raises(StillhouseError, match="invalid class names truck, ship"):
        images("CIFAR10", root)


def test_cifar100_has_the_fine_labels(tmp_path, monkeypatch):
    loader, folder = datasets.CIFAR100, tmp_path / datasets.CIFAR100.base_folder
    data = np.arange(2 * 3072, dtype=np.uint16).astype(np.uint8).reshape(2, 3072)
    batch = {"data": data, "fine_labels": [99, 0], "coarse_labels": [1, 2]}
    written = [dump(folder / name, batch) for name in ("train", "test")]
    names = {"fine_label_names": list(catalogue.classes(settings("CIFAR100")))}
    meta = dump(folder / "meta", names)
    monkeypatch.setattr(loader, "train_list", written[:1])
    monkeypatch.setattr(loader, "test_list", written[1:])
    monkeypatch.setattr(loader, "meta", {**loader.meta, "md5": meta[1]})
    assert [image.class_id for image in images("CIFAR100", tmp_path)] == ["worm", "apple"] * 2


def test_cifar100_has_a_hundred_classes_in_order():
    actual = catalogue.classes(settings("CIFAR100"))
    assert len(set(actual)) == 100
    assert list(actual) == sorted(actual)


def write_idx(path, array):
    """Write an array in the format of MNIST: two zeros, type, dimensions, sizes, bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())


@pytest.fixture
def mnist(tmp_path):
    """MNIST of one image per class and split."""
    for split in ("train", "t10k"):
        raw = tmp_path / "MNIST" / "raw"
        write_idx(raw / f"{split}-images-idx3-ubyte", np.zeros((10, 28, 28), np.uint8))
        write_idx(raw / f"{split}-labels-idx1-ubyte", np.arange(10, dtype=np.uint8))
    return tmp_path


@pytest.mark.parametrize(("name", "last"), [("MNIST", "9"), ("FashionMNIST", "Ankle boot")])
def test_mnist_stays_grey(tmp_path, name, last):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (3, 28, 28), np.uint8)
    for split in ("train", "t10k"):
        raw = tmp_path / name / "raw"
        write_idx(raw / f"{split}-images-idx3-ubyte", grey)
        write_idx(raw / f"{split}-labels-idx1-ubyte", np.array([9, 0, 9], np.uint8))
    actual = images(name, tmp_path, [last])
    assert [image.image_id for image in actual] == [
        *("train-0000000", "train-0000002", "test-0000000", "test-0000002"),
    ]
    np.testing.assert_array_equal(pixels(actual[1]), grey[2])


def test_the_classes_of_fashion_mnist_are_torchvisions():
    assert list(catalogue.classes(settings("FashionMNIST"))) == datasets.FashionMNIST.classes


def test_ten_is_svhns_zero(tmp_path, monkeypatch):
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (32, 32, 3, 2), np.uint8)
    files = {}
    for split, (url, name, _) in datasets.SVHN.split_list.items():
        if split in ("train", "test"):
            savemat(tmp_path / name, {"X": colours, "y": np.array([[10], [7]])})
            files[split] = [url, name, hashlib.md5((tmp_path / name).read_bytes()).hexdigest()]
    monkeypatch.setattr(datasets.SVHN, "split_list", files)
    actual = images("SVHN", tmp_path)
    assert [image.class_id for image in actual] == ["0", "7", "0", "7"]
    np.testing.assert_array_equal(pixels(actual[1]), colours[..., 1])


def test_a_label_out_of_range_is_an_error(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    for split in ("train", "t10k"):
        write_idx(raw / f"{split}-images-idx3-ubyte", np.zeros((1, 28, 28), np.uint8))
        write_idx(raw / f"{split}-labels-idx1-ubyte", np.array([10], np.uint8))
    with pytest.raises(StillhouseError, match="train split: invalid label 10; MNIST has 10"):
        images("MNIST", tmp_path)


def test_more_images_than_labels_are_an_error(mnist):
    write_idx(mnist / "MNIST/raw/train-labels-idx1-ubyte", np.arange(9, dtype=np.uint8))
    with pytest.raises(StillhouseError, match="train split: 10 images conflict with 9 labels") as e:
        images("MNIST", mnist)
    assert str(e.value).endswith(f"delete {mnist}/MNIST/raw and download again")


def test_an_error_of_torchvision_becomes_one_line(mnist):
    (mnist / "MNIST/raw/train-labels-idx1-ubyte").write_bytes(bytes(20))
    with pytest.raises(StillhouseError, match=r"cannot load MNIST \(AssertionError\)"):
        images("MNIST", mnist)


def test_the_remedy_does_not_name_download_where_it_is_set(mnist):
    (mnist / "MNIST/raw/train-labels-idx1-ubyte").write_bytes(bytes(20))
    with pytest.raises(StillhouseError) as caught:
        images("MNIST", mnist, download=True)
    assert "download: true" not in str(caught.value)
    assert "replace damaged files among MNIST/raw" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_downloaded_by_default(tmp_path, monkeypatch):
    asked = []
    for name in ("CIFAR10", "MNIST", "SVHN"):
        monkeypatch.setattr(getattr(datasets, name), "download", lambda self: asked.append(self))
        with pytest.raises(StillhouseError, match=f"torchvision cannot load {name} "):
            images(name, tmp_path)
        assert not asked
        with pytest.raises(StillhouseError):
            images(name, tmp_path, download=True)
        assert len(asked) == 1
        asked.clear()


def jpeg(number):
    """Return a grey JPEG file."""
    buffer = io.BytesIO()
    Pillow.new("L", (9, 8), number).save(buffer, "JPEG")
    return buffer.getvalue()


def tar(path, files, mode="w"):
    """Write an archive of {name: bytes} and return its MD5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def imagenette(tmp_path, monkeypatch):
    """An archive of Imagenette with two classes, where torchvision downloads it to."""
    files = {
        f"imagenette2/{split}/{class_id}/{class_id}_{i}.JPEG": jpeg(i)
        for split, count in (("train", 2), ("val", 1))
        for class_id in ("n03888257", "n01440764")
        for i in range(count)
    }
    actual = ("nowhere/imagenette2.tgz", tar(tmp_path / "imagenette2.tgz", files, "w:gz"))
    monkeypatch.setattr(datasets.Imagenette, "_ARCHIVES", {"full": actual})
    return tmp_path, files


def test_imagenette_is_unpacked_and_read_in_place(imagenette):
    root, files = imagenette
    wanted = ["n01440764", "n03888257"]
    with pytest.raises(StillhouseError, match="missing folder train of Imagenette") as caught:
        images("Imagenette", root, wanted)
    assert "sources.small.download: true" in str(caught.value)
    assert [path.name for path in root.iterdir()] == ["imagenette2.tgz"]
    actual = images("Imagenette", root, wanted, download=True)
    assert [image.image_id for image in actual] == [
        *(f"imagenette2/train/n01440764/n01440764_{i}.JPEG" for i in range(2)),
        *(f"imagenette2/train/n03888257/n03888257_{i}.JPEG" for i in range(2)),
        *(f"imagenette2/val/{class_id}/{class_id}_0.JPEG" for class_id in wanted),
    ]
    assert {image.data for image in actual} == {None}
    assert {image.path: image.load(root) for image in actual} == files
    # An unpacked data set needs no download.
    assert images("Imagenette", root, wanted) == actual


def test_an_archive_that_is_not_the_published_one_is_not_unpacked(imagenette, monkeypatch):
    root, _ = imagenette
    address, _ = datasets.Imagenette._ARCHIVES["full"]
    monkeypatch.setattr(datasets.Imagenette, "_ARCHIVES", {"full": (address, "0" * 32)})
    with pytest.raises(StillhouseError, match="torchvision cannot load Imagenette") as caught:
        images("Imagenette", root, download=True)
    assert "replace damaged files among imagenette2.tgz" in str(caught.value)
    assert "download: true" not in str(caught.value)
    # torchvision's own download failed too.
    assert {path.name for path in root.iterdir()} <= {"imagenette2.tgz"}


def killed(function, *arguments):
    """Call a function that ends its process."""
    process = os.fork()
    if process == 0:
        function(*arguments)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9


def test_imagenette_of_a_killed_job_is_incomplete(imagenette, monkeypatch):
    root, files = imagenette
    wanted = ["n01440764", "n03888257"]

    def extract_one(archive, path, **options):
        archive.extract(archive.getmembers()[0], path)
        os._exit(9)

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extractall", extract_one)
        killed(images, "Imagenette", root, wanted, True)
    assert not (root / "imagenette2").exists()
    (staging,) = root.glob(".Imagenette-unpacking/")
    (staging / "imagenette2/train/n03888257/stale.JPEG").touch()
    actual = images("Imagenette", root, wanted, download=True)
    assert {image.path for image in actual} == set(files)
    assert {path.name for path in root.iterdir()} == {"imagenette2", "imagenette2.tgz"}


def write(path, data):
    with open(path, "wb") as stream:
        stream.write(data)


def test_downloaded_files_stay_in_the_root(imagenette, monkeypatch):
    root, _ = imagenette
    archive = (root / "imagenette2.tgz").read_bytes()
    (root / "imagenette2.tgz").unlink()
    utils = datasets.utils
    monkeypatch.setattr(utils, "_get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr(utils, "_urlretrieve", lambda _, path: write(path, archive))
    images("Imagenette", root, ["n01440764"], download=True)
    assert (root / "imagenette2.tgz").read_bytes() == archive
    assert not (root / "imagenette2.tgz").is_symlink()


@pytest.mark.parametrize("name", ["Imagenette", "ImageNet"])
def test_with_a_holdout_the_test_split_may_be_missing(tmp_path, name):
    train, _ = catalogue.TORCHVISION_FOLDERS[name]
    (tmp_path / train / "n01440764").mkdir(parents=True)
    (tmp_path / train / "n01440764/1.JPEG").write_bytes(jpeg(1))
    actual = images(name, tmp_path, ["n01440764"], holdout=0.2)
    assert [image.image_id for image in actual] == [f"{train}/n01440764/1.JPEG"]
    with pytest.raises(StillhouseError, match="missing folder val of"):
        images(name, tmp_path, ["n01440764"])


def make_index(name, root, holdout=0.0, as_published=1):
    """Index a set as a job does."""
    artifact = Artifact(INDEX, "small", settings(name, holdout))
    resources = {"source_roots": {"small": str(root)}, "as_published": as_published}
    jobs.produce(INDEX, {}, artifact.spec(), (), resources)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Imagenette of three training images and a test image in each of two classes."""
    classes = ("n01440764", "n03888257")
    for split, count in (("train", 3), ("val", 1)):
        for class_id in classes:
            (tmp_path / "imagenette2" / split / class_id).mkdir(parents=True)
            for i in range(count):
                path = tmp_path / "imagenette2" / split / class_id / f"{class_id}_{i}.JPEG"
                path.write_bytes(jpeg(i))
    monkeypatch.setitem(
        catalogue.TORCHVISION, "Imagenette", catalogue.TorchvisionFacts(classes, 3, (6, 2))
    )
    return tmp_path


def test_a_folder_with_other_numbers_of_images_than_published_is_an_error(folders, empty):
    (folders / "imagenette2/train/n03888257/n03888257_2.JPEG").unlink()
    message = "sources.small: 5 train images conflict with the 6 published for Imagenette; delete "
    with pytest.raises(StillhouseError) as caught:
        make_index("Imagenette", folders)
    assert str(caught.value) == (
        f"{message}{folders}/imagenette2/train and unpack it again, or, to use these images, set "
        "sources.small.smallest_class"
    )
    make_index("Imagenette", folders, as_published=0)


def test_a_missing_test_image_is_an_error(folders, empty):
    (folders / "imagenette2/val/n03888257/n03888257_0.JPEG").rename(folders / "elsewhere.JPEG")
    with pytest.raises(StillhouseError, match=r": 1 test images .* delete .*imagenette2/val "):
        make_index("Imagenette", folders, holdout=0.34)


def test_a_complete_set_is_indexed_and_with_a_holdout_needs_no_test_split(folders, empty):
    make_index("Imagenette", folders)
    shutil.rmtree(folders / "imagenette2/val")
    make_index("Imagenette", folders, holdout=0.34)


def test_arrays_with_other_numbers_of_images_than_published_are_an_error(mnist, empty):
    with pytest.raises(
        StillhouseError, match=": 10 train images conflict with the 60000 published for MNIST"
    ) as e:
        make_index("MNIST", mnist)
    assert f"delete {mnist}/MNIST/raw and download again" in str(e.value)


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    """Archives of ImageNet: two classes of two training images and one test image."""
    torch = pytest.importorskip("torch")
    names = {"n01440764": ("tench",), "n15075141": ("toilet tissue",)}
    torch.save((names, ["n15075141", "n01440764"]), tmp_path / "meta.bin")
    for class_id in names:
        tar(tmp_path / f"{class_id}.tar", {f"{class_id}_{i}.JPEG": jpeg(i) for i in range(2)})
    parts = {f"{name}.tar": (tmp_path / f"{name}.tar").read_bytes() for name in names}
    val = {f"ILSVRC2012_val_0000000{i}.JPEG": jpeg(i) for i in (1, 2)}
    module = datasets.imagenet
    sums = {
        split: (name, tar(tmp_path / name, files))
        for split, name, files in (
            ("train", "ILSVRC2012_img_train.tar", parts),
            ("val", "ILSVRC2012_img_val.tar", val),
        )
    }
    monkeypatch.setattr(module, "ARCHIVE_META", {**module.ARCHIVE_META, **sums})
    return tmp_path, names


def test_imagenet_is_unpacked_from_its_archives(imagenet):
    root, names = imagenet
    actual = images("ImageNet", root, names, download=True)
    assert [image.image_id for image in actual] == [
        *(f"train/n01440764/n01440764_{i}.JPEG" for i in range(2)),
        *(f"train/n15075141/n15075141_{i}.JPEG" for i in range(2)),
        "val/n01440764/ILSVRC2012_val_00000002.JPEG",
        "val/n15075141/ILSVRC2012_val_00000001.JPEG",
    ]
    assert [image.class_id for image in actual[4:]] == list(names)


def test_imagenet_of_a_killed_job_is_incomplete(imagenet, monkeypatch):
    root, names = imagenet
    with monkeypatch.context() as patch:
        patch.setattr(datasets.imagenet.shutil, "move", lambda *_: os._exit(9))
        killed(images, "ImageNet", root, names, True)
    assert (root / ".ImageNet-unpacking/val").is_dir()
    assert not (root / "val").exists()
    assert len(images("ImageNet", root, names, download=True)) == 6
    assert not list(root.glob(".*"))


def test_the_classes_of_the_folders_are_torchvisions():
    assert list(catalogue.classes(settings("Imagenette"))) == sorted(
        datasets.Imagenette._WNID_TO_CLASS
    )
    assert len(catalogue.classes(settings("ImageNet"))) == 1000
