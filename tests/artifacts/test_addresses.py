import copy
from pathlib import PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stillhouse.artifacts import addresses
from stillhouse.artifacts.addresses import Artifact, class_of, digest_of, label, safe_name
from stillhouse.errors import StillhouseError


def artifact(**changes):
    upstream = Artifact("index", "digits", {"kind": "digits", "holdout": 0.0})
    parts = {
        "stage": "distilled",
        "label": "rded",
        "settings": {"crop": [0.5, 1.0], "teacher": {"seed": 0, "arch": "convnet3"}},
        "upstream": {"images": Artifact("images", "digits", {}, {"index": upstream})},
        "keys": {"ipc": 10, "seed": 0},
        "folder": "digits",
    }
    return Artifact(**{**parts, **changes})


def test_the_order_of_settings_does_not_matter():
    turned = artifact(settings={"teacher": {"arch": "convnet3", "seed": 0}, "crop": [0.5, 1.0]})
    assert turned.digest == artifact().digest
    assert turned.directory == artifact().directory


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


def test_upstream_is_digested_with_its_role():
    changed = Artifact("index", "digits", {"kind": "digits", "holdout": 0.5})
    images = Artifact("images", "digits", {}, {"index": changed})
    assert artifact(upstream={"images": images}).digest != artifact().digest
    assert artifact(upstream={"scores": artifact().upstream["images"]}).digest != artifact().digest
    assert artifact(upstream={}).digest != artifact().digest


@pytest.mark.parametrize("stage", ["distilled", "images", "index"])
def test_a_raised_version_is_a_new_address_for_all_that_follows(monkeypatch, stage):
    before = artifact().digest
    monkeypatch.setitem(addresses.VERSIONS, stage, addresses.VERSIONS[stage] + 1)
    assert artifact().digest != before


def test_the_version_of_another_stage_changes_nothing(monkeypatch):
    before = artifact().digest
    monkeypatch.setitem(addresses.VERSIONS, "teacher", 99)
    assert artifact().digest == before


def test_label_and_folder_are_for_readers_only():
    assert artifact(label="other", folder="elsewhere").digest == artifact().digest


def test_keys_are_in_the_path_and_not_in_the_digest():
    one, other = artifact(), artifact(keys={"ipc": 50, "seed": 3})
    assert one.digest == other.digest
    assert other.directory == PurePosixPath(f"results/distilled/digits/{one.name}/ipc50-seed3")
    images = one.upstream["images"].at(class_id="a/b")
    assert images.file("images.parquet") == f"results/images/{images.name}/a%2Fb/images.parquet"
    seeded = Artifact("students", "s", {}).at(student_seed=-1)
    assert seeded.directory.name == "seed-1"


def test_keys_of_upstream_are_digested_unless_the_own_path_says_the_same():
    def with_scores(own, of_scores):
        scores = Artifact("patch_scores", "digits", {}, {}, {"seed": of_scores})
        return artifact(upstream={"scores": scores}, keys={"ipc": 1, **own}).digest

    assert with_scores({"seed": 0}, 0) == with_scores({"seed": 1}, 1)
    assert with_scores({"seed": 0}, 1) != with_scores({"seed": 0}, 0)
    assert with_scores({}, 0) != with_scores({}, 1)


def test_what_is_made_from_two_seeds_of_one_set_differs():
    def student(seed):
        return Artifact("students", "s", {}, {"distilled": artifact(keys={"ipc": 1, "seed": seed})})

    assert student(0).digest != student(1).digest


def test_a_written_spec_gives_its_digest_again():
    whole = artifact()
    written = whole.spec()
    assert written["digest"] == whole.digest == digest_of(written)
    assert written["address"] == str(whole.directory)
    changed = copy.deepcopy(written)
    changed["settings"]["crop"] = [0.5, 0.9]
    assert digest_of(changed) != whole.digest


def test_an_ancestor_is_found_however_far_up():
    whole = artifact()
    images = whole.upstream["images"]
    assert whole.ancestor("images") is images
    assert whole.ancestor("index") is images.upstream["index"]
    assert whole.ancestor("teacher") is None
    assert images.upstream["index"].ancestor("index") is None
    # Through those that have none; the nearer of two that are in a line.
    teacher = Artifact("teacher", "t", {}, {"images": images})
    made = Artifact("decode", "x", {}, {"a": Artifact("samples", "s", {}), "b": teacher})
    student = Artifact("students", "s", {}, {"distilled": artifact(upstream={"decoded": made})})
    assert student.ancestor("teacher") is teacher
    assert student.ancestor("index") is images.upstream["index"]
    assert student.ancestor("students") is None
    outer = Artifact("distilled", "o", {}, {"inner": whole})
    assert outer.ancestor("distilled") is whole
    assert Artifact("tables", "t", {}, {"x": outer}).ancestor("distilled") is outer


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
def test_class_ids_come_back_from_one_path_component(name):
    folder = safe_name(name)
    assert "/" not in folder
    assert folder not in (".", "..", "")
    assert "\\" not in folder
    assert class_of(f"results/images/x/{folder}/images.parquet") == name


@given(st.lists(PRINTABLE, min_size=2, max_size=2, unique=True))
def test_two_class_ids_never_share_a_folder(names):
    folders = {safe_name(n) for n in names if n not in (".", "..")}
    assert len(folders) == len([n for n in names if n not in (".", "..")])


HOSTILE = ["", " ", ".", "..", " . ", "a\nb", "a\x00b", "\x1b[2J", "a\u2028b", "x" * 121, "é" * 21]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_cannot_be_folders_are_refused(name):
    with pytest.raises(StillhouseError, match="cannot name a folder") as caught:
        safe_name(name)
    assert "\n" not in str(caught.value)


def test_labels_are_letters_digits_dots_and_dashes():
    assert label("digits", "16px", "convnet3") == "digits-16px-convnet3"
    assert label("a_b c/d", "", "..", "é") == "a_b-c-d"
    assert label("ipc1", "ImageNet 1K (val)") == "ipc1-ImageNet-1K-val"
    assert label("../..") == ""
