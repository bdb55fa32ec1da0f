import copy
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stillhouse.artifacts.addresses import (
    Artifact,
    digest_of,
    member_folder,
    member_spec,
    safe_name,
    slug,
)
from stillhouse.artifacts.stages import (
    DECODED,
    DISTILLED,
    IMAGES,
    INDEX,
    STUDENTS,
    TEACHER,
    Stage,
)
from stillhouse.errors import StillhouseError

SYNTHESIS = Stage("synthesis", 1, ("images.parquet",), "module:function", "images", "batch")


def artifact(**changes):
    """Return a distilled set, whose upstream are images and an index."""
    index = Artifact(INDEX, "digits", {"kind": "digits", "holdout": 0.0})
    parts = {
        "stage": DISTILLED,
        "slug": "rded",
        "settings": {"crop": [0.5, 1.0], "teacher": {"seed": 0, "arch": "convnet3"}},
        "upstream": {"images": Artifact(IMAGES, "digits", {}, {"index": index})},
        "keys": {"ipc": 10, "seed": 0},
        "folder": "digits",
    }
    return Artifact(**{**parts, **changes})


def test_a_digest_has_twelve_hexadecimal_digits():
    assert re.fullmatch("[0-9a-f]{12}", artifact().digest)


def test_the_order_of_settings_does_not_matter():
    turned = artifact(settings={"teacher": {"arch": "convnet3", "seed": 0}, "crop": [0.5, 1.0]})
    assert turned.digest == artifact().digest
    assert turned.directory == artifact().directory
    assert str(turned.spec()) == str(artifact().spec())


@pytest.mark.parametrize(
    "settings",
    [
        {"crop": [0.5, 1.0], "teacher": {"seed": 1, "arch": "convnet3"}},
        {"crop": [1.0, 0.5], "teacher": {"seed": 0, "arch": "convnet3"}},
        {"crop": [0.5, 1.0], "teacher": {"seed": "0", "arch": "convnet3"}},
        {"crop": [0.5, 1.0], "seed": 0, "arch": "convnet3"},
        {"crop": [0.5, 1.0]},
        {"crop": [0.5, 1.0], "teacher": {"seed": 0, "arch": "convnet3"}, "flip": None},
    ],
)
def test_any_other_setting_gives_another_digest(settings):
    assert artifact(settings=settings).digest != artifact().digest


def test_upstream_is_digested_with_its_name():
    changed = Artifact(INDEX, "digits", {"kind": "digits", "holdout": 0.5})
    images = Artifact(IMAGES, "digits", {}, {"index": changed})
    assert artifact(upstream={"images": images}).digest != artifact().digest
    assert artifact(upstream={"scores": artifact().upstream["images"]}).digest != artifact().digest
    assert artifact(upstream={}).digest != artifact().digest


def test_the_order_of_several_upstream_artifacts_is_digested():
    first, second = (Artifact(TEACHER, "t", {"seed": seed}) for seed in (0, 1))
    both = artifact(upstream={"teachers": [first, second]})
    assert both.parts() == [("teachers", first), ("teachers", second)]
    assert both.digest == digest_of(both.spec())
    digests = {
        artifact(upstream={"teachers": teachers}).digest
        for teachers in ([first, second], [second, first], [first], first)
    }
    assert len(digests) == 4


@pytest.mark.parametrize("stage", [DISTILLED, IMAGES, INDEX], ids=lambda stage: stage.name)
def test_a_raised_version_is_a_new_address_of_all_downstream(stage):
    def raised(artifact):
        upstream = {name: raised(part) for name, part in artifact.upstream.items()}
        version = artifact.stage.version + (artifact.stage == stage)
        return replace(artifact, stage=replace(artifact.stage, version=version), upstream=upstream)

    assert raised(artifact()).digest != artifact().digest


def test_slug_and_folder_do_not_change_the_digest():
    assert artifact(slug="other", folder="elsewhere").digest == artifact().digest


def test_keys_are_in_the_path_and_not_in_the_digest():
    first, other = artifact(), artifact(keys={"ipc": 50, "seed": 3})
    assert first.digest == other.digest
    assert other.directory == Path(f"results/distilled/digits/{first.name}/ipc50-seed3")
    assert other.relative_path == f"digits/{first.name}/ipc50-seed3"
    assert other.file == f"{other.directory}/images.parquet"


def test_members_lie_below_their_artifact():
    images = artifact().upstream["images"]
    assert images.member_file("a/b") == f"results/images/{images.name}/a%2Fb/images.parquet"
    students = Artifact(STUDENTS, "s", {})
    assert students.member_file(-1) == f"results/students/{students.name}/seed-1/cell.json"
    synthesis = Artifact(SYNTHESIS, "s", {}, {}, {"ipc": 1, "seed": -3})
    assert synthesis.member_file(12) == f"{synthesis.directory}/batch12/images.parquet"
    assert str(member_folder(synthesis.directory, "batch", 0)) == f"{synthesis.directory}/batch0"


def test_the_spec_of_a_member_adds_its_key_and_address():
    synthesis = Artifact(SYNTHESIS, "s", {}, {}, {"ipc": 1, "seed": -3})
    spec = synthesis.member_spec(12)
    assert spec == member_spec(synthesis.spec(), "batch", 12)
    assert spec["keys"] == {"ipc": 1, "seed": -3, "batch": 12}
    assert spec["address"] == f"{synthesis.directory}/batch12"
    assert spec["digest"] == synthesis.digest
    assert "batch" not in synthesis.spec()["keys"]


def test_the_number_of_members_is_in_the_spec_and_not_in_the_digest():
    plain, counted = Artifact(SYNTHESIS, "s", {}), Artifact(SYNTHESIS, "s", {}, n_members=7)
    assert counted.spec() == {**plain.spec(), "members": 7}
    assert counted.digest == plain.digest


def test_keys_of_upstream_are_digested_unless_the_own_path_has_the_same():
    def with_images(own, upstream):
        images = Artifact(DECODED, "digits", {}, {}, {"seed": upstream})
        return artifact(upstream={"images": images}, keys={"ipc": 1, **own}).digest

    assert with_images({"seed": 0}, 0) == with_images({"seed": 1}, 1)
    assert with_images({"seed": 0}, 1) != with_images({"seed": 0}, 0)
    assert with_images({}, 0) != with_images({}, 1)


def test_students_of_two_seeds_of_a_set_differ():
    def student(seed):
        return Artifact(STUDENTS, "s", {}, {"distilled": artifact(keys={"ipc": 1, "seed": seed})})

    assert student(0).digest != student(1).digest


def test_the_digest_follows_from_the_spec_alone():
    first = artifact()
    spec = first.spec()
    assert spec["stage"] == "distilled"
    assert spec["digest"] == first.digest == digest_of(spec)
    assert spec["address"] == str(first.directory)
    changed = copy.deepcopy(spec)
    changed["settings"]["crop"] = [0.5, 0.9]
    assert digest_of(changed) != first.digest


PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=9)


@given(PRINTABLE.filter(lambda name: name not in (".", "..")))
@example("n01440764")
@example("a/b")
@example("../../etc/passwd")
@example("...")
@example("a%2Fb")
@example("C:\\x")
@example("hen-of-the-woods, Grifola")
@example("Müller~é")
@example("~")
def test_a_class_id_is_one_path_component_and_follows_from_it(name):
    folder = safe_name(name)
    assert "/" not in folder
    assert folder not in (".", "..", "")
    assert "\\" not in folder
    assert unquote(folder) == name


@given(st.lists(PRINTABLE, min_size=2, max_size=2, unique=True))
def test_two_class_ids_never_share_a_folder(names):
    folders = {safe_name(n) for n in names if n not in (".", "..")}
    assert len(folders) == len([n for n in names if n not in (".", "..")])


HOSTILE = [
    "",
    " ",
    ".",
    "..",
    " . ",
    "lineage.json",
    "a\nb",
    "a\x00b",
    "\x1b[2J",
    "a\u2028b",
    "x" * 121,
    "é" * 21,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_class_ids_that_cannot_name_folders_are_an_error(name):
    with pytest.raises(StillhouseError, match="invalid as a folder name") as caught:
        safe_name(name)
    assert "\n" not in str(caught.value)


def test_slugs_are_letters_digits_dots_underscores_and_dashes():
    assert slug("digits", "16px", "convnet3") == "digits-16px-convnet3"
    assert slug("a_b c/d", "", "..", "é") == "a_b-c-d"
    assert slug("ipc1", "ImageNet 1K (val)") == "ipc1-ImageNet-1K-val"
    assert slug("../..") == ""
