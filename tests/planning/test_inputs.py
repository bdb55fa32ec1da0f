"""Input files as declared to Snakemake and as read by jobs."""

from pathlib import Path

import pytest
from diffused import FOLDER, HUB, with_denoisers
from stillhouse.artifacts import manifests, store
from stillhouse.config.load import complete
from stillhouse.errors import StillhouseError
from stillhouse.methods.registry import stages
from stillhouse.planning.inputs import (
    check_files,
    check_user_files,
    declared_inputs,
    job_inputs,
    user_files,
    weight_folders,
)

from tests.planning.configs import (
    build,
    lineage,
    with_codec,
    with_matching,
    with_observers,
)

CLIP = {"folder": "weights/clip", "sha256": "7" * 64}


def with_every_stage(config):
    """Put methods with all stages into a config, divided into blocks of two."""
    methods = {**config["methods"], "herding": {"kind": "herding", "feature_space": "t"}}
    with_codec(with_matching(with_observers(with_denoisers(config))))
    config["methods"] |= methods
    kinds = ["herding", "rded", "d3hr", "ddps", "d4m", "sre2l", "edc", "dm", "tm", "ruo"]
    config["experiments"]["x"] |= {"methods": kinds, "protocols": ["soft", "hard", "online"]}
    config["labels"]["online"] = {"kind": "online", "teachers": ["t", "a"]}
    config["protocols"]["online"] = {"labels": "online", "epochs": 2, "batch_size": 4}
    config["sources"]["digits"]["classes_per_block"] = 2
    config["compute"] = {"batches_per_job": 1, "seeds_per_job": 1}
    config["methods"]["edc"]["batch_size"] = 2
    config["students"]["i"]["zca"] = 0.1
    return config


def jobs_of(wanted):
    """Yield (artifact, members) of all jobs of a plan."""
    for by_path in wanted.artifacts.values():
        for artifact in by_path.values():
            yield artifact, ()
    for by_name in wanted.families.values():
        for family in by_name.values():
            for block in family.blocks.values():
                yield family.artifact, block.members


def outputs_of(wanted):
    """Return {declared output: files that are complete once it exists} of all jobs of a plan."""
    outputs = {}
    for artifact, members in jobs_of(wanted):
        if members:
            (manifest,) = wanted.manifests(artifact, members)
            outputs[manifest] = {artifact.member_file(member) for member in members}
        else:
            outputs[artifact.file] = {artifact.file}
            if artifact.stage.name == "dataset":
                images, classes = artifact.upstream["images"], artifact.settings["classes"]
                outputs[artifact.file] |= {images.member_file(class_id) for class_id in classes}
    return outputs


def files_in(inputs):
    """Yield the paths of the inputs of a job."""
    for value in inputs.values():
        for part in value if isinstance(value, list) else [value]:
            yield from part.values() if isinstance(part, dict) else [part]


def test_every_file_that_a_job_reads_is_complete_before_it(tiny):
    wanted = build(with_every_stage(tiny))
    outputs = outputs_of(wanted)
    computed = set()
    for artifact, members in jobs_of(wanted):
        declared = declared_inputs(wanted, artifact, members)
        inputs = job_inputs(artifact.spec(), members)
        assert declared.keys() == inputs.keys() == artifact.upstream.keys()
        for name in inputs:
            listed = set().union(*(outputs[path] for path in declared[name]))
            assert set(map(str, files_in({name: inputs[name]}))) <= listed
        computed.add(artifact.stage.name)
    assert computed == stages().keys()


def test_inputs_are_declared_per_job_and_not_per_class(tiny):
    tiny["datasets"]["three"]["classes"] = "all"
    tiny["sources"]["digits"]["classes_per_block"] = 5
    wanted = build(tiny)
    for cell in wanted.experiments["x"]:
        declared = declared_inputs(wanted, cell["artifact"], [cell["seed"]])
        assert {name: len(paths) for name, paths in declared.items()}.items() <= {
            *(("distilled", 1), ("images", 1), ("labels", 1)),
        }
    for distilled in wanted.artifacts["distilled"].values():
        assert len(declared_inputs(wanted, distilled)["images"]) == 2  # blocks
        assert len(job_inputs(distilled.spec())["images"]) == 10  # classes


def test_inputs_have_the_shape_of_their_upstream(tiny):
    wanted = build(with_every_stage(tiny))
    shapes = {}
    for artifact, members in jobs_of(wanted):
        for name, value in job_inputs(artifact.spec(), members).items():
            shapes.setdefault((artifact.stage.name, name), set()).add(type(value))
            if artifact.stage.member == "class_id" and isinstance(value, dict):
                assert tuple(value) == members
    assert shapes["teacher", "images"] == shapes["distilled", "images"] == {dict}
    assert shapes["distilled", "synthesis"] == shapes["latents", "images"] == {dict}
    assert shapes["synthesis", "teachers"] == shapes["synthesis", "statistics"] == {list}
    assert shapes["labels", "distilled"] == shapes["patch_scores", "teacher"] == {type(Path())}
    (distilled,) = [a for a, _ in jobs_of(wanted) if a.slug == "edc" and a.keys["ipc"] == 2]
    # Batches of six images.
    assert list(job_inputs(distilled.spec())["synthesis"]) == list(range(3))


def test_a_dataset_lists_the_images_that_its_readers_open(in_tiny_results):
    (teacher,) = in_tiny_results.artifacts["teacher"].values()
    images = job_inputs(teacher.spec())["images"]
    listed = manifests.read(teacher.upstream["images"].file)["members"]
    assert [str(path.parent) for path in images.values()] == list(listed)
    for path in images.values():
        assert listed[str(path.parent)] == store.read_spec(path.parent)["files"]


def test_folders_of_weights_are_found_by_their_digest(tiny):
    config = with_denoisers(tiny)
    config["methods"]["ddps"] |= {"features": "clip", "clip": CLIP}
    other = {"folder": "weights/other", "sha256": "9" * 64}
    config["experiments"]["x"]["methods"] = ["d3hr", {"ddps": {"clip": other}}]
    assert weight_folders(complete(config, "x.yaml")) == {
        FOLDER["sha256"]: FOLDER["folder"],
        CLIP["sha256"]: CLIP["folder"],
        other["sha256"]: other["folder"],
    }
    # A hub's are in its cache.
    config["denoisers"]["dit"]["pretrained"] = {**HUB, "hub": "someone/dit"}
    config["methods"]["ddps"]["clip"] = HUB
    config["experiments"]["x"]["methods"] = ["ddps"]
    assert weight_folders(complete(config, "x.yaml")) == {}


def test_two_folders_with_one_digest_are_an_error(tiny):
    config = with_denoisers(tiny)
    config["methods"]["ddps"] |= {"features": "clip", "clip": {**CLIP, "sha256": "5" * 64}}
    message = (
        r"^methods\.ddps\.clip\.folder: weights/\w+ conflicts with weights/\w+ of "
        r"denoisers\.dit\.pretrained, which has the same sha256; use one folder"
    )
    with pytest.raises(StillhouseError, match=message):
        weight_folders(complete(config, "x.yaml"))
    config["methods"]["ddps"]["clip"] = CLIP
    config["experiments"]["x"]["methods"] = [{"ddps": {"clip": {**CLIP, "sha256": "5" * 64}}}]
    with pytest.raises(StillhouseError, match=r"^experiments\.x\.methods\.ddps\.clip\.folder: "):
        weight_folders(complete(config, "x.yaml"))


def test_files_of_the_user_are_named_by_their_keys(tiny, empty):
    weights = {"file": "weights/t.safetensors", "sha256": "0" * 64}
    tiny["teachers"]["t"] = {"arch": "convnet1", "weights": weights}
    tiny["sources"]["p"] = {
        **{"kind": "parquet", "train": ["a", "b"], "test": ["c"]},
        **{"classes": ["0", "1", "2"], "smallest_class": 9},
    }
    tiny["sources"]["f"] = {
        **{"kind": "image_folder", "root": "data/f", "smallest_class": 9},
        "classes": ["0", "1", "2"],
    }
    actual, problems = {}, {}
    for source in ("digits", "p", "f"):
        tiny["datasets"]["three"]["source"] = source
        wanted = build(tiny)
        for artifact in lineage(wanted.experiments["x"][-2]["artifact"]):
            actual[source, artifact.stage.name] = user_files(wanted, artifact)
            try:
                check_user_files(wanted, artifact)
            except StillhouseError as error:
                problems[source, artifact.stage.name] = str(error)
    assert actual["digits", "index"] == actual["digits", "images"] == {}
    assert actual["p", "index"] == actual["p", "images"] == {"train": ["a", "b"], "test": ["c"]}
    assert actual["f", "index"] == actual["f", "images"] == {}
    assert actual["p", "teacher"] == {"weights": ["weights/t.safetensors"]}
    assert actual["p", "distilled"] == {}
    missing = {
        "p": "sources.p.train: file not found: a; correct the path",
        "f": "sources.f.root: folder not found: data/f; correct the path",
    }
    teacher = "teachers.t.weights.file: file not found: weights/t.safetensors; correct the path"
    assert problems == {
        **{(source, stage): missing[source] for source in missing for stage in ("index", "images")},
        **{(source, "teacher"): teacher for source in ("digits", "p", "f")},
        # They read images by reference.
        **{("f", stage): missing["f"] for stage in ("patch_scores", "distilled", "students")},
    }


def test_the_root_of_stored_references_must_exist(tiny, empty):
    tiny["sources"]["digits"] = {
        **{"kind": "image_folder", "root": "pets", "smallest_class": 9},
        "classes": ["0", "1", "2"],
    }
    wanted = build(tiny)
    outputs = [one.file for own in wanted.artifacts.values() for one in own.values()]
    outputs += [
        block.manifest
        for own in wanted.families.values()
        for family in own.values()
        for block in family.blocks.values()
    ]
    last = next(path for path in outputs if "students" in str(path))
    for path in outputs:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    check_files(wanted)  # nothing is missing
    Path(last).unlink()
    with pytest.raises(StillhouseError, match=r"digits\.root: folder not found: pets"):
        check_files(wanted)


def test_an_existing_index_is_checked_against_the_treatment_of_leaks(
    in_tiny_results, tiny, monkeypatch
):
    tiny["sources"]["digits"]["on_leak"] = "error"
    wanted = build(tiny)
    (images,) = (family.artifact for family in wanted.families["images"].values())
    check_user_files(wanted, images)
    table = store.read_table(images.upstream["index"].file)
    twice = table.slice(0, 1).to_pylist()
    copied = [{**row, "split": split} for row in twice for split in ("train", "test")]
    monkeypatch.setattr(store, "read_table", lambda *_, **__: table.from_pylist(copied))
    with pytest.raises(StillhouseError, match=r"sources\.digits: 1 training images equal test"):
        check_user_files(wanted, images)
    with pytest.raises(StillhouseError, match=r"sources\.digits: 1 training images equal test"):
        check_files(wanted)


def first_problem(wanted):
    """Return the error of the user's files; empty if there is none."""
    try:
        check_files(wanted)
    except StillhouseError as error:
        return str(error)
    return ""


def test_files_are_checked_that_a_missing_artifact_needs(tiny, empty):
    tiny["sources"]["p"] = {
        **{"kind": "parquet", "train": ["a", "b"], "test": ["c"]},
        **{"classes": ["0", "1", "2"], "smallest_class": 9},
    }
    assert first_problem(build(tiny)) == ""  # no experiment needs the source
    tiny["datasets"]["three"]["source"] = "p"
    tiny["teachers"]["t"] = {
        **{"arch": "convnet1", "width": 4, "norm": "instance"},
        "weights": {"file": "t.pth", "sha256": "1" * 64},
    }
    with_denoisers(tiny)["methods"] = {"d4m": {"kind": "d4m", "denoiser": "dit"}}
    tiny["experiments"]["x"]["methods"] = ["d4m"]
    wanted = build(tiny)
    for key, path, make in [
        ("sources.p.train", "a", lambda p: p.write_bytes(b"PAR1a")),
        ("sources.p.train", "b", lambda p: p.write_bytes(b"PAR1b")),
        ("sources.p.test", "c", lambda p: p.write_bytes(b"PAR1c")),
        ("teachers.t.weights.file", "t.pth", lambda p: p.write_bytes(b"PK\3\4")),
        ("denoisers.dit.pretrained.folder", "weights/dit", lambda p: p.mkdir(parents=True)),
    ]:
        kind = "folder" if "folder" in key else "file"
        assert first_problem(wanted) == f"{key}: {kind} not found: {path}; correct the path"
        make(Path(path))
    assert first_problem(wanted) == ""
    Path("a").write_text("image,label\n")
    assert first_problem(wanted) == "sources.p.train: a: is of another format; must be Parquet"
    Path("t.pth").write_text("root:x:0:0\n")
    for path in ("a", "t.pth"):
        Path(path).unlink()
        Path(path).mkdir()
    assert first_problem(wanted).startswith("sources.p.train: a: has no files *.parquet")
    # With index, images and teacher stored, neither source nor weights are needed.
    (index,), (teacher,) = wanted.artifacts["index"].values(), wanted.artifacts["teacher"].values()
    (images,) = wanted.families["images"].values()
    for path in (index.file, *(b.manifest for b in images.blocks.values())):
        Path(path).parent.mkdir(parents=True)
        Path(path).touch()
    message = "teachers.t.weights.file: t.pth: is a folder, not a file; must be a readable file"
    assert first_problem(wanted) == message
    Path(teacher.file).parent.mkdir(parents=True)
    Path(teacher.file).touch()
    assert first_problem(wanted) == ""
