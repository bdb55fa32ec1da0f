import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stillhouse.data.sources.locations import check_source, parquet_files
from stillhouse.errors import StillhouseError


@pytest.fixture
def shards(empty):
    for name in ("train-00001.parquet", "train-00000.parquet", "test-00000.parquet", "notes.txt"):
        (empty / "data").mkdir(exist_ok=True)
        (empty / "data" / name).write_text(f"PAR1{name}")
    (empty / "data" / ".train-00009.parquet").write_text("hidden")
    return empty


TRAIN = ["data/train-00000.parquet", "data/train-00001.parquet"]


def test_files_patterns_and_folders_are_listed_in_name_order(shards):
    assert parquet_files(["data/train-*.parquet"]) == TRAIN
    assert parquet_files(["data"]) == ["data/test-00000.parquet", *TRAIN]
    assert parquet_files([TRAIN[1], TRAIN[0]]) == TRAIN[::-1]
    assert parquet_files(["data/notes.txt", "gone", "data/x*"]) == [
        *("data/notes.txt", "gone", "data/x*")
    ]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["a/*.parquet"], ["a/test.parquet", "a/train.parquet/part-0.parquet"]),
        (["a/train.parquet"], ["a/train.parquet/part-0.parquet"]),
        (
            ["a/**/*.parquet"],
            ["a/label=cat/0.parquet", "a/test.parquet", "a/train.parquet/part-0.parquet"],
        ),
        (["a/**/0.parquet"], ["a/label=cat/0.parquet"]),
    ],
)
def test_folders_of_spark_and_subfolders_are_listed_by_patterns(empty, given, wanted):
    for name in ("label=cat/0.parquet", "test.parquet", "train.parquet/part-0.parquet"):
        (empty / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (empty / "a" / name).write_text("PAR1")
    (empty / "a/train.parquet/_SUCCESS").touch()
    assert parquet_files(given) == wanted


def test_a_name_with_characters_of_patterns_is_a_name(empty):
    os.makedirs("[a]*")
    for name in ("[a]*/x[0].parquet", "[a]*/x0.parquet"):
        (empty / name).write_text("")
    assert parquet_files(["[a]*/x[0].parquet"]) == ["[a]*/x[0].parquet"]
    assert parquet_files(["[a]*"]) == ["[a]*/x0.parquet", "[a]*/x[0].parquet"]


def problem(train, test, **settings):
    source = {"kind": "parquet", "train": train, "test": test, **settings}
    try:
        check_source("sources.s", source)
    except StillhouseError as error:
        assert "\n" not in str(error)
        return str(error)
    return ""


def test_files_of_both_splits_are_accepted(shards):
    assert problem(["data/train-*"], ["data/test-*"]) == ""


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (
            ["data"],
            ["data"],
            "sources.s.test: data/test-00000.parquet is the same file as data/test",
        ),
        (
            TRAIN,
            [TRAIN[0]],
            f"sources.s.test: {TRAIN[0]} is the same file as {TRAIN[0]} of sources",
        ),
        (
            [*TRAIN, TRAIN[0]],
            ["data/test-*"],
            "sources.s.train: data/train-00000.parquet is the same",
        ),
        (["link.parquet", *TRAIN], ["data/test-*"], f"{TRAIN[1]} is the same file as link.parquet"),
        (
            ["none"],
            ["data/test-*"],
            "sources.s.train: none: has no files *.parquet; list files, another folder, or, for",
        ),
        (["~/x.parquet"], TRAIN, "not found: ~/x.parquet; write it out: ~ and variables have no"),
        (["$DATA/x.parquet"], TRAIN, "write it out: ~ and variables have no effect in a config"),
        (["hf://datasets/a/x.parquet"], TRAIN, "it must be on this machine: download it"),
        (["data/x-*"], TRAIN, "sources.s.train: file not found: data/x-*"),
        (["text"], TRAIN, "sources.s.train: text: is of another format; must be Parquet"),
        (["pointer"], TRAIN, "pointer: is a Git LFS pointer; run `git lfs pull`; must be Parquet"),
        (["pipe"], TRAIN, "sources.s.train: pipe: is a named pipe, not a file; must be a readable"),
        (TRAIN, ["loop"], "sources.s.test: loop: Too many levels of symbolic links; must be"),
        (TRAIN, ["a\0b"], "sources.s.test: file not found"),
    ],
)
def test_files_that_cannot_be_used_are_named(shards, train, test, message):
    os.symlink(TRAIN[1], "link.parquet")
    os.symlink("loop", "loop")
    os.mkfifo("pipe")
    os.mkdir("none")
    (shards / "text").write_text("root:x:0:0")
    (shards / "pointer").write_text("version https://git-lfs.github.com/spec/v1")
    assert message in problem(train, test)


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("gone", "sources.s.root: folder not found: gone; correct the path"),
        ("~/pets", "sources.s.root: folder not found: ~/pets; write it out: ~ and variables"),
        ("s3://pets", "sources.s.root: folder not found: s3://pets; it must be on this machine"),
        ("data/notes.txt", "sources.s.root: data/notes.txt: is a file, not a folder; must be a"),
        ("/dev/null", "sources.s.root: /dev/null: is a device, not a folder"),
        ("data", ""),
    ],
)
def test_the_root_must_be_a_folder(shards, root, message):
    try:
        check_source("sources.s", {"kind": "torchvision", "root": root})
    except StillhouseError as error:
        assert str(error).startswith(message) and message
    else:
        assert not message


@pytest.mark.parametrize(
    ("classes", "holdout", "message"),
    [
        (["cat", "dog"], 0.0, ""),
        (["cat", "dgo"], 0.0, "pets/train/dgo (images of class 'dgo'); did you mean 'dog'?"),
        (["cat", "hen"], 0.0, "pets/val/hen (images of class 'hen'); available: cat, dog"),
        (["cat", "hen"], 0.1, "pets/val/hen (images of class 'hen'); available: cat, dog"),
    ],
)
def test_each_class_has_a_folder(empty, classes, holdout, message):
    for name in ("train/cat", "train/dog", "train/hen", "val/cat", "val/dog"):
        Path("pets", name).mkdir(parents=True)
    folders = {"train": "train", "test": "val", "holdout": holdout}
    source = {"kind": "image_folder", "root": "pets", "classes": classes, **folders}
    if message:
        with pytest.raises(StillhouseError) as error:
            check_source("sources.s", source)
        assert str(error.value) == f"sources.s: folder not found: {message}"
    else:
        check_source("sources.s", source)


def test_a_root_to_download_to_may_be_missing(empty):
    check_source("sources.s", {"kind": "torchvision", "root": "gone", "download": True})


@given(st.lists(st.text(max_size=8), min_size=1, max_size=3))
def test_any_text_is_a_path_or_an_error_of_one_line(paths):
    message = problem(paths, paths)
    assert message.isprintable() and message
