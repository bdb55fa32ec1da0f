"""The division of members into jobs, and the manifests that represent them."""

import copy
import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stillhouse.methods.task import dataset_manifest

from tests.conftest import TINY
from tests.planning.configs import build, places, with_observers

CLASSES = tuple("0123456789")
class_lists = st.lists(st.sampled_from(CLASSES), min_size=2, unique=True)
sizes = st.integers(1, 12)


def family_of_scores(classes, size):
    """Return the scores of a dataset's patches, by a teacher of all classes of the source."""
    config = copy.deepcopy(TINY)
    config["sources"]["digits"]["classes_per_block"] = size
    config["datasets"] = {
        "all": {"source": "digits", "classes": "all", "resolution": 8},
        "some": {"source": "digits", "classes": classes, "resolution": 8},
    }
    config["teachers"]["t"]["dataset"] = "all"
    config["experiments"]["x"] |= {"dataset": "some", "ipc": [1], "protocols": ["hard"]}
    (family,) = build(config).families["patch_scores"].values()
    return family


@settings(max_examples=25)
@given(class_lists, sizes)
def test_blocks_are_cut_at_fixed_positions_of_the_sources_classes(classes, size):
    blocks = family_of_scores(classes, size).blocks
    assert [m for block in blocks.values() for m in block.members] == sorted(classes)
    for name, block in blocks.items():
        number = int(name.split("-")[0])
        assert {CLASSES.index(member) // size for member in block.members} == {number}


@settings(max_examples=25)
@given(class_lists, class_lists, sizes, sizes)
def test_no_address_depends_on_the_other_classes_or_the_block_size(classes, others, size, other):
    first, second = family_of_scores(classes, size), family_of_scores(others, other)
    assert first.artifact.spec() == second.artifact.spec()
    for member in classes:
        path = first.artifact.member_file(member)
        assert path == second.artifact.member_file(member)
        assert Path(path).parts[-2] == member
    # Manifests of the same name list the same members.
    members = {}
    for block in (*first.blocks.values(), *second.blocks.values()):
        assert members.setdefault(block.manifest, block.members) == block.members


@pytest.mark.parametrize("size", [1, 3, 100])
def test_every_batch_and_every_seed_is_in_one_block(tiny, size):
    config = with_observers(tiny)
    config["compute"] = {"batches_per_job": size, "seeds_per_job": size}
    config["methods"]["edc"]["batch_size"] = 1
    config["experiments"]["x"]["seeds"] = [5, 0, 7, 2]
    wanted = build(config)
    for stage in ("synthesis", "students"):
        for family in wanted.families[stage].values():
            members = [block.members for block in family.blocks.values()]
            assert list(itertools.chain(*members)) == list(family.members)
            assert {len(block) for block in members[:-1]} <= {size}
    seeds = next(iter(wanted.families["students"].values())).members
    assert list(seeds) == [5, 0, 7, 2]


def test_manifests_are_those_of_the_blocks_that_hold_the_members(tiny):
    tiny["sources"]["digits"]["classes_per_block"] = 2
    tiny["datasets"]["three"]["classes"] = ["9", "2", "5", "3"]
    wanted = build(tiny)
    (family,) = wanted.families["patch_scores"].values()
    blocks = {block.members: block.manifest for block in family.blocks.values()}
    assert list(blocks) == [("2", "3"), ("5",), ("9",)]
    assert wanted.manifests(family.artifact) == list(blocks.values())
    assert wanted.manifests(family.artifact, ["9", "3", "2"]) == [
        blocks["9",],
        blocks["2", "3"],
    ]
    folder = family.artifact.relative_path.replace("/", "_")
    assert {str(Path(path).parent) for path in blocks.values()} == {
        f"results/manifests/patch_scores/{folder}"
    }


def test_the_division_into_jobs_is_in_no_address(tiny):
    before = places(build(tiny))
    tiny["sources"]["digits"]["classes_per_block"] = 1
    tiny["compute"] = {"device": "cuda", "threads": 3, "batch_size": 7, "checkpoint_seconds": 1}
    tiny["compute"] |= {"batches_per_job": 1, "seeds_per_job": 1, "processes": 4}
    assert places(build(tiny)) == before


def test_datasets_with_the_same_classes_share_a_manifest_of_images(tiny):
    tiny["datasets"]["turned"] = {**tiny["datasets"]["three"], "classes": ["2", "1", "0"]}
    tiny["experiments"]["y"] = {**tiny["experiments"]["x"], "dataset": "turned"}
    wanted = build(tiny)
    (manifest,) = wanted.artifacts["dataset"].values()
    assert manifest.settings == {"classes": ["0", "1", "2"]}
    assert dataset_manifest(wanted, "digits", ["1", "2", "0"]) == manifest
    assert dataset_manifest(wanted, "digits", ["1", "2"]) != manifest
    # The order of labels affects training and relabelling, not artifacts stored per class.
    assert len(wanted.artifacts["teacher"]) == 2
    assert len(wanted.artifacts["distilled"]) == 8
