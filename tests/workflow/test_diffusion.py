"""D3HR, DDPS and D4M on one denoiser: what they share, what an edit touches, kills, the cut."""

import collections
import copy
import os
import shutil
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.workflow

# Of more images, the picture of latents alone has something new to show.
FOR_PEOPLE = {"tables": 1, "curves": 1, "charts": 1, "page": 1, "latent_chart": 1}
# Kept per class, or per source: no more of it is needed for more images, or fewer classes.
PER_CLASS = {
    *("index", "images", "teacher", "denoiser", "latents", "inversion", "class_scores"),
    *("features", "clusters"),
}


def with_diffusion(config):
    """Return a config with the three diffusion methods in the place of the others."""
    config["sources"]["digits"]["holdout"] = 0.8
    config["denoisers"] = {
        "small": {
            "kind": "dit",
            "resolution": 8,
            "train": {
                "autoencoder": {
                    **{"channels": [8, 8], "norm_groups": 4, "latent_channels": 2},
                    **{"steps": 30, "batch_size": 16},
                },
                "network": {
                    **{"width": 16, "heads": 2, "layers": 2},
                    **{"steps": 60, "batch_size": 16},
                },
            },
        }
    }
    denoiser = {"denoiser": "small"}
    config["methods"] = {
        "d3hr": {
            **{"kind": "d3hr", **denoiser, "steps": 10, "inversion_steps": 6},
            **{"guidance": 1.5, "candidates": 500},
        },
        "ddps": {"kind": "ddps", **denoiser, "draws": 3, "clusters": 4, "images_per_class": 20},
        "d4m": {"kind": "d4m", **denoiser, "steps": 6, "guidance": 1.5},
    }
    config["protocols"]["soft"]["epochs"] = 4
    config["labels"]["soft"]["epochs_stored"] = 4
    config["experiments"]["tiny"] |= {"methods": ["d3hr", "ddps", "d4m"], "seeds": [0]}
    return config


@pytest.fixture(scope="module")
def cold(run_cold, tiny_config):
    """Run the diffusion config from scratch, once; not to be changed."""
    return run_cold(with_diffusion(tiny_config()))


@pytest.fixture
def config(tiny_config):
    """Return the diffusion config, free to be changed."""
    return with_diffusion(tiny_config())


def n_families(folder, stage):
    return len(list((folder / "results" / stage).iterdir()))


def test_latents_are_encoded_once_for_all_methods(cold):
    assert n_families(cold, "latents") == n_families(cold, "denoiser") == 1
    assert n_families(cold, "decode") == 2  # D3HR's and D4M's
    assert cold.jobs() == {}
    rows = cold.rows()
    assert [row["method"] for row in rows] == ["d3hr"] * 2 + ["ddps"] * 2 + ["d4m"] * 2
    assert all(float(row["seconds_denoiser"]) > 0 for row in rows)
    # Mean and variance of 2 × 4 × 4 values of three classes, four bytes each.
    statistics = {row["method"]: row["statistics_bytes"] for row in rows}
    assert statistics == {"d3hr": f"{3 * 2 * 32 * 4:.4f}", "ddps": "", "d4m": ""}


def test_more_images_per_class_sample_and_decode_and_invert_nothing(finished, config):
    config["experiments"]["tiny"]["ipc"] = [1, 2]
    finished.configure(config)
    assert finished.jobs() == {
        **{"samples": 1, "prototypes": 1, "decode": 2, "distilled": 3, "contact_sheet": 3},
        **{"labels": 3, "students": 6},
        **FOR_PEOPLE,
    }


def test_of_d3hr_any_number_of_images_is_made_from_statistics_and_denoiser_alone(
    finished, config, cold
):
    finished.remove("latents")
    config["experiments"]["tiny"] |= {"methods": ["d3hr"], "ipc": [1, 3], "protocols": ["hard"]}
    finished.configure(config)
    planned = finished.jobs()
    assert not (PER_CLASS | {"prototypes"}) & set(planned)
    (decoded,) = [j.outputs for j in finished.plan() if j.stage == "decode"]
    finished.make(*decoded)
    assert not finished.paths("latents/**/*")
    assert len(finished.paths("decode/*/ipc3-seed0/*/images.parquet")) == 3


def test_other_classes_of_the_source_make_nothing_per_class(finished, config):
    config["datasets"]["pair"] = {"source": "digits", "classes": ["2", "0"], "resolution": 8}
    config["teachers"]["small"]["dataset"] = "many"
    config["experiments"]["tiny"]["dataset"] = "pair"
    finished.configure(config)
    assert not (PER_CLASS | {"samples", "prototypes", "decode"}) & set(finished.jobs())


def test_an_edit_goes_as_far_as_what_it_shapes(finished, config):
    before = copy.deepcopy(config)
    for method, setting, value, untouched in (
        ("d3hr", "candidates", 600, {"denoiser", "latents", "inversion"}),
        ("d3hr", "guidance", 2.0, {"denoiser", "latents", "class_scores", "prototypes"}),
        ("ddps", "clusters", 3, {"class_scores", "features", "latents", "decode"}),
        ("ddps", "clusters_used", 2, {"clusters", "features"}),
        ("d4m", "strength", 0.5, {"prototypes", "latents", "samples", "inversion"}),
    ):
        config = copy.deepcopy(before)
        config["methods"][method][setting] = value
        finished.configure(config)
        planned = finished.jobs()
        assert planned.get("distilled") == 1, (method, setting)
        assert not untouched & set(planned), (method, setting)
    finished.configure(before)
    assert finished.jobs() == {}


def test_methods_that_stop_at_different_steps_share_one_inversion(finished, config):
    config["methods"]["d3hr"]["snapshots"] = [4, 6]
    early = {"early": {**config["methods"]["d3hr"], "inversion_steps": 4}}
    config["methods"] |= early
    config["experiments"]["tiny"]["methods"] = ["d3hr", "early"]
    finished.configure(config)
    planned = finished.jobs()
    assert planned["inversion"] == 1
    assert planned["samples"] == planned["decode"] == 2


@pytest.mark.parametrize("cut", [1, 2])
def test_the_cut_into_jobs_changes_no_byte(folder, config, cold, cut):
    """From the latents on; `cold` has all classes in one job."""
    config["sources"]["digits"]["classes_per_block"] = cut
    shutil.copytree(cold.path, folder.path, dirs_exist_ok=True)
    folder.configure(config)
    assert folder.jobs() == {}
    folder.remove("latents", "inversion", "samples", "prototypes", "decode")
    folder.remove("class_scores", "features", "clusters", "distilled", "students", "tables")
    jobs = collections.Counter(job.stage for job in folder.plan())
    assert jobs["inversion"] == {1: 3, 2: 2}[cut]
    folder.make()
    folder.assert_same(cold)


def test_another_batch_makes_nothing_again_and_from_scratch_the_same_to_tolerance(
    finished, config, cold
):
    config["compute"]["batch_size"] = 5
    finished.configure(config)
    assert finished.jobs() == {}
    finished.remove("latents", "inversion", "samples", "decode", "class_scores", "tables")
    finished.remove("features", "clusters", "prototypes", "distilled", "students")
    finished.make(*cold.paths_of("inversion/**/*.safetensors", "class_scores/**/*.parquet"))
    for path in cold.paths("inversion/**/*.safetensors"):
        ours, theirs = (load_file(folder / "results" / path) for folder in (finished, cold))
        for name in ("mean", "variance"):
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5)
    for path in cold.paths("class_scores/**/*.parquet"):
        ours, theirs = (pq.read_table(folder / "results" / path) for folder in (finished, cold))
        assert ours["image_id"] == theirs["image_id"]
        np.testing.assert_allclose(ours["score"], theirs["score"], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("killed", ["job", "both"])
@pytest.mark.parametrize("stage", ["denoiser", "inversion"])
def test_what_was_killed_ends_as_if_undisturbed(finished, cold, start, stage, killed):
    after = {
        "denoiser": ["denoiser", "latents", "class_scores", "features", "clusters", "prototypes"],
        "inversion": [],
    }[stage]
    finished.remove(*after, "inversion", "samples", "decode", "distilled", "labels", "students")
    finished.remove("tables")
    running = start(finished)
    running.until_file(f".work/{stage}-*/*.safetensors")
    job = running.job(stage)
    if killed == "both":
        os.killpg(running.process.pid, signal.SIGKILL)
    else:
        job.kill()
    assert running.wait() != 0
    assert not finished.paths(f"{stage}/*/**/*.json")
    if killed == "both":
        finished.make("--unlock")
    finished.make()
    log = "".join(path.read_text() for path in (finished / "results/logs" / stage).rglob("*.log"))
    assert "resumes after" in log
    finished.assert_same(cold)
