import json
from pathlib import Path

import pyarrow as pa
import pytest
from stillhouse.artifacts import manifests, store
from stillhouse.artifacts.addresses import Artifact
from stillhouse.artifacts.stages import DATASET, IMAGES

PETS = Artifact(IMAGES, "pets", {"revision": 1})
BLOCK = Path("results/manifests/images/pets/0000-abc.json")


def write_member(class_id):
    """Write the file of a class; return the folder."""
    spec = PETS.member_spec(class_id)
    table = pa.table({"class_id": [class_id]})
    store.write(spec["address"], spec, {"images.parquet": table}, artifact=PETS.spec())
    return Path(spec["address"])


@pytest.fixture
def block(empty):
    """Write a manifest of the complete members "cat" and "a/b"."""
    for class_id in ("cat", "a/b"):
        write_member(class_id)
    manifests.write(BLOCK, IMAGES, PETS.spec(), ["cat", "a/b"])
    return BLOCK


@pytest.fixture
def dataset(block):
    """Write a dataset that lists "a/b" and "hen"; return the path of its file."""
    artifact = Artifact(DATASET, "pets", {"classes": ["a/b", "hen"]}, {"images": PETS})
    folders = [write_member("hen"), Path(PETS.member_file("a/b")).parent]
    content = manifests.listing(folders)
    store.write(artifact.directory, artifact.spec(), {"dataset.json": content})
    return Path(artifact.file)


def test_a_manifest_lists_the_files_of_each_member_with_their_checksums(block):
    manifest = json.loads(block.read_text())
    assert (manifest["stage"], manifest["address"]) == ("images", str(PETS.directory))
    assert list(manifest["members"]) == [f"{PETS.directory}/a%2Fb", f"{PETS.directory}/cat"]
    for folder, files in manifest["members"].items():
        assert files == store.read_spec(folder)["files"]
        assert files["images.parquet"].keys() == {"bytes", "sha256"}
    assert manifests.read(block) == manifest


def test_the_manifest_of_the_same_files_has_the_same_bytes(block):
    before = block.read_bytes()
    block.unlink()
    manifests.write(block, IMAGES, PETS.spec(), ["a/b", "cat"])
    assert block.read_bytes() == before


def test_a_manifest_of_a_missing_member_is_not_written(block):
    block.unlink()
    with pytest.raises(store.Missing, match=r"pig/spec\.json: missing"):
        manifests.write(block, IMAGES, PETS.spec(), ["cat", "pig"])
    assert list(block.parent.iterdir()) == []


@pytest.mark.parametrize("content", [None, b"", b'{"members": {'])
def test_a_missing_or_damaged_manifest_is_empty(empty, content):
    if content is not None:
        Path("x.json").write_bytes(content)
    assert manifests.read("x.json") == {}


def test_manifests_of_blocks_and_datasets_that_list_a_member_are_found(block, dataset):
    assert manifests.listing_files(PETS.directory / "cat") == [block]
    assert manifests.listing_files(PETS.directory / "a%2Fb") == [block, dataset]
    assert manifests.listing_files(PETS.directory / "hen") == [dataset]
    assert manifests.listing_files(PETS.directory / "pig") == []


@pytest.mark.parametrize("absolute", [False, True])
def test_manifests_that_list_a_damaged_member_are_removed_and_named(block, dataset, absolute):
    other = block.with_name("0001-def.json")
    manifests.write(other, IMAGES, PETS.spec(), ["cat"])
    path = Path(PETS.member_file("a/b"))
    message = manifests.forget(path.absolute() if absolute else path)
    assert message == f" (removed {block}, {dataset}, which listed it)"
    assert not block.exists()
    assert not dataset.exists()
    assert other.exists()
    assert path.exists()
    assert manifests.forget(path) == ""


def test_all_manifests_that_list_a_member_of_a_damaged_lineage_are_removed(block, dataset):
    other = block.with_name("0001-def.json")
    manifests.write(other, IMAGES, PETS.spec(), ["cat"])
    message = manifests.forget(PETS.directory / "lineage.json")
    assert {block, other, dataset} == {
        path for path in (block, other, dataset) if str(path) in message
    }
    assert not any(path.exists() for path in (block, other, dataset))


def test_the_folder_of_a_class_may_be_named_like_that_of_results(empty):
    path = write_member("results") / "images.parquet"
    manifests.write(BLOCK, IMAGES, PETS.spec(), ["results"])
    assert manifests.forget(path.absolute()) == f" (removed {BLOCK}, which listed it)"


def test_a_file_outside_results_is_in_no_manifest(block, tmp_path):
    assert manifests.forget(tmp_path / "weights.pth") == ""
    assert block.exists()


@pytest.mark.parametrize("damage", [None, "{", "[]", "5", '{"other": 1}'])
def test_what_a_report_shows_is_recorded(empty, damage):
    path = Path("results/figures/x/curves.svg")
    assert manifests.shown(path) is None
    manifests.record_shown(path, "0123abc")
    manifests.record_shown(path.with_suffix(".csv"), "4567")
    assert manifests.shown(path) == "0123abc"
    record = Path("results/manifests/reports/figures/x/curves.svg.json")
    assert record.exists()
    if damage is not None:
        record.write_text(damage)
        assert manifests.shown(path) is None
    assert manifests.listing_files(Path("results/pets/a")) == []


@pytest.mark.parametrize("text", ["[]", "5", "null", '"members"', '{"members": 3}', "[" * 9999])
def test_a_manifest_of_another_type_is_empty(empty, text):
    path = Path("results/manifests/pets/x/0.json")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert manifests.read(path) == {}
    assert manifests.listing_files(Path("results/pets/a")) == []
    assert manifests.forget(Path("results/pets/a/x.json")) == ""
