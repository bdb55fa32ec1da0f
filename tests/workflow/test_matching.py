"""DM, GM and TM through Snakemake: the toy preset, a kill, and experts that are reused."""

import signal

import pytest
import yaml
from snakemake_runs import ROOT, Folder

# Experts that are reused: tests/methods/common/utilities/test_settings.py; resuming: tests/methods.
pytestmark = [pytest.mark.workflow, pytest.mark.slow]

PRESET = ROOT / "workflow/presets/digits-matching.yaml"
MATCHING = {
    "dm": {"kind": "dm", "network": "small", "real_images": 5, "iterations": 400},
    "tm": {
        **{"kind": "tm", "network": "small", "iterations": 6, "learning_rate": 3},
        **{"student_steps": 2, "expert_epochs": 1, "start_epochs": 2},
        "experts": {"count": 2, "batch_size": 64},
    },
}


@pytest.fixture
def matching(folder, config):
    """Return a folder with a config of DM and TM on three digits, and the config."""
    config["teachers"], config["denoisers"], config["labels"] = {}, {}, {}
    config["methods"] = MATCHING
    config["students"]["small"]["norm"] = "instance"
    config["protocols"] = {"hard": {"labels": "hard", "epochs": 2}}
    config["experiments"]["tiny"] |= {
        **{"methods": ["dm", "tm"], "ipc": [1, 2], "protocols": ["hard"], "seeds": [0]},
    }
    config = yaml.safe_load(yaml.safe_dump(config))
    folder.configure(config)
    return folder, config


def test_the_toy_preset_runs_to_its_tables(tmp_path):
    folder = Folder(tmp_path / "run")
    folder.configure(yaml.safe_load(PRESET.read_text()))
    folder.make()
    rows = folder.rows("digits-matching")
    assert {row["method"] for row in rows} == {"random", "dm", "gm", "tm", "tm-tesla", "dm-tm"}
    accuracy = {(row["method"], row["ipc"]): float(row["accuracy"]) for row in rows}
    assert all(accuracy[kind, "1"] > accuracy["random", "1"] for kind in ("dm", "gm", "tm"))
    assert {row["protocol"] for row in folder.rows("digits-matching-learned")} == {"learned"}
    # One family of experts for all IPCs and variants.
    assert len(folder.paths("trajectories/*/expert*/snapshots.safetensors")) == 2
    assert folder.paths("figures/digits-matching/synthesis-gm-seed0.png")
    assert folder.jobs() == {}


def test_more_experts_and_other_budgets_compute_what_is_missing(matching):
    folder, config = matching
    config["experiments"]["tiny"] |= {"methods": ["tm"], "ipc": [1]}
    folder.configure(config)
    folder.make(*folder.outputs("distilled"))
    assert len(folder.paths("trajectories/*/expert*/snapshots.safetensors")) == 2
    before = folder.states()

    config["methods"]["tm"]["experts"]["count"] = 3
    config["methods"]["tm"]["iterations"] = 5
    folder.configure(config)
    (target,) = folder.outputs("distilled")
    assert folder.jobs(target) == {"trajectories": 1, "matched": 1, "distilled": 1}
    folder.make(target)
    assert len(folder.paths("trajectories/*/expert*/snapshots.safetensors")) == 3
    states = folder.states()
    kept = {path: state for path, state in before.items() if "trajectories" in path}
    assert {path: states[path] for path in kept} == kept


def test_a_killed_optimisation_resumes_to_the_same_bytes(matching, start):
    folder, config = matching
    config["experiments"]["tiny"] |= {"methods": ["dm"], "ipc": [2]}
    folder.configure(config)
    folder.make("results/tables/tiny.csv")
    path = folder.one("matched/digits-8px-dm-*/ipc2-seed0/images.parquet")
    undisturbed = path.read_bytes()
    target = folder.relative(path)
    folder.remove("matched", "logs/matched")

    running = start(folder, target)
    running.until_checkpoint("matched/digits-8px-dm-*/ipc2-seed0", "state.safetensors")
    running.job("matched").send_signal(signal.SIGKILL)
    assert running.wait() != 0
    assert not path.exists()
    folder.make(target)
    assert ": resumes after iteration" in folder.logs("matched")
    assert path.read_bytes() == undisturbed
