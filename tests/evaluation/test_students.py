from pathlib import Path

import numpy as np
import pytest
import torch
from stillhouse.artifacts import store
from stillhouse.artifacts.context import Context
from stillhouse.augmentation.views import draw, render
from stillhouse.config import protocols
from stillhouse.data.transforms import normalise
from stillhouse.data.whitening import Whitening, fit
from stillhouse.errors import StillhouseError
from stillhouse.evaluation import students
from stillhouse.evaluation.label_sources import HardLabels
from stillhouse.networks import registry

VIEWS = {"crop": [1.0, 1.0], "flip": 0.0, "patches_per_side": 1, "mix": "none"}
MIXED = {**VIEWS, "mix": "cutmix", "mix_alpha": 1.0, "mix_per": "batch"}
TRAINING = {
    "loss": "ce",
    "epochs": 12,
    "optimizer": "adamw",
    "learning_rate": 0.02,
    "weight_decay": 0.01,
    "schedule": "cosine",
    "smoothing": 2.0,
    "batchnorm_updates": 2,
    "precision": "float32",
    "tests": {"every": 10, "offset": 0, "after": 0.0},
}


def outputs_and_targets(n=6, n_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    outputs, targets = rng.normal(0, 3, (2, n, n_classes))
    return outputs, targets, rng.integers(0, n_classes, n)


def softmax(values):
    values = np.exp(values - values.max(1, keepdims=True))
    return values / values.sum(1, keepdims=True)


def loss_of(settings, outputs, targets, hard):
    outputs = torch.tensor(outputs, requires_grad=True)
    value = students.make_loss(settings)(outputs, torch.tensor(targets), torch.tensor(hard))
    value.backward()
    return value.item(), outputs.grad.numpy()


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_kl_is_without_the_square_of_the_temperature(temperature):
    outputs, targets, hard = outputs_and_targets()
    teacher, student = softmax(targets / temperature), softmax(outputs / temperature)
    wanted = (teacher * np.log(teacher / student)).sum(1).mean()
    settings = {"loss": "kl", "temperature": temperature}
    found, gradient = loss_of(settings, outputs, targets, hard)
    assert found == pytest.approx(wanted)
    np.testing.assert_allclose(gradient, (student - teacher) / temperature / 6, atol=1e-12)


def test_mse_ce_is_the_error_of_the_logits_plus_weighted_cross_entropy():
    outputs, targets, hard = outputs_and_targets()
    cross = -np.log(softmax(outputs)[np.arange(6), hard]).mean()
    wanted = ((outputs - targets) ** 2).mean() + 0.3 * cross
    found, _ = loss_of({"loss": "mse_ce", "ce_weight": 0.3}, outputs, targets, hard)
    assert found == pytest.approx(wanted)


def test_cross_entropy_of_a_mix_is_the_mix_of_both():
    # IDC's training: ratio × CE(own class) + (1 - ratio) × CE(partner's class).
    outputs, _, hard = outputs_and_targets()
    partner, ratio = hard[::-1], 0.3
    logs = -np.log(softmax(outputs))
    wanted = (ratio * logs[np.arange(6), hard] + 0.7 * logs[np.arange(6), partner]).mean()
    targets = ratio * np.eye(4)[hard] + 0.7 * np.eye(4)[partner]
    assert loss_of({"loss": "ce"}, outputs, targets, hard)[0] == pytest.approx(wanted)


def test_cross_entropy_is_against_distributions():
    outputs, _, hard = outputs_and_targets()
    targets = 0.7 * np.eye(4)[hard] + 0.3 * np.eye(4)[(hard + 1) % 4]
    wanted = -(targets * np.log(softmax(outputs))).sum(1).mean()
    found, _ = loss_of({"loss": "ce"}, outputs, targets, hard)
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("epochs", "tests", "wanted"),
    [
        # RDED's main.py counts from 0: epoch % 10 == 9 or the last, and epoch > 0.8 E.
        (300, {}, {e + 1 for e in range(300) if (e % 10 == 9 or e == 299) and e > 240}),
        (300, {}, {250, 260, 270, 280, 290, 300}),
        (200, {}, {170, 180, 190, 200}),
        (25, {}, {25}),
        (12, {}, {10, 12}),
        (1, {}, {1}),
        (105, {}, {90, 100, 105}),
        # EDC on CIFAR-10: epoch % 10 == 0 and epoch > 800, or the last.
        (1000, {"offset": 1, "after": 801}, {*range(811, 1000, 10), 1000}),
        # D3HR: every epoch > 290.
        (300, {"every": 1, "after": 291}, set(range(292, 301))),
        # SRe2L on CIFAR-100: epoch % 10 == 0, or the last.
        (25, {"offset": 1, "after": 0}, {1, 11, 21, 25}),
        (40, {"after": 0}, {10, 20, 30, 40}),
    ],
)
def test_students_are_tested_in_the_epochs_of_their_protocol(epochs, tests, wanted):
    tests = {"every": 10, "offset": 0, "after": 0.8, **tests}
    settings = {"epochs": epochs, "tests": protocols.tests_in_epochs(tests, epochs)}
    assert protocols.tested_epochs(settings) == wanted


def colours(n=30, noise=40, seed=0):
    """Return images of three classes that differ in their colour, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    pixels = np.full((n, 3, 8, 8), 80)
    pixels[np.arange(n), labels] = 150
    pixels = pixels + rng.integers(-noise, noise, pixels.shape)
    return torch.from_numpy(pixels.astype(np.uint8)), torch.from_numpy(labels)


def hard_labels(views=VIEWS, batch_size=10):
    return HardLabels({"views": views, "batch_size": batch_size}, *colours(), 3)


def train(labels, seed=0, net_seed=None, work=None, prepare=normalise, **changes):
    settings = {"arch": "convnet1", "width": 4, "norm": "batch"}
    net = registry.build(settings, 3, 8, seed if net_seed is None else net_seed, "student")
    context = Context(work=work) if work else Context()
    training = {**TRAINING, **changes}
    return students.train(net, labels, colours(90, 60, 1), training, seed, context, prepare)


def test_a_student_learns():
    cell = train(hard_labels())
    assert cell["accuracy"] > 90
    assert cell["accuracy_top5"] is None
    assert cell["n_parameters"] == 315
    assert [row["epoch"] for row in cell["curve"]] == list(range(1, 13))
    assert cell["curve"][-1]["loss"] < cell["curve"][0]["loss"] / 2
    assert [row["epoch"] for row in cell["curve"] if "accuracy" in row] == [10, 12]


def test_whitened_inputs_are_those_of_training_and_tests():
    whitening, calls = Whitening(*fit(colours()[0], 0.1)), []

    def prepare(pixels):
        calls.append(pixels)
        return whitening(pixels)

    cell = train(hard_labels(), prepare=prepare, tests={"every": 100, "offset": 0, "after": 0.0})
    assert cell["accuracy"] > 90
    # Twelve epochs of three steps, then the 90 test images in batches.
    assert [len(part) for part in calls[:36]] == [10] * 36
    assert torch.equal(torch.cat(calls[36:]), colours(90, 60, 1)[0])
    assert cell != train(hard_labels(), tests={"every": 100, "offset": 0, "after": 0.0})


def test_a_student_of_wrong_labels_does_not_learn():
    labels = hard_labels()
    of_rows = labels.distributions
    labels.distributions = lambda rows: of_rows(rows - 1)
    assert train(labels)["accuracy"] < 10


def test_best_is_the_best_of_the_tests():
    tests = {"every": 10, "offset": 1, "after": 31.0}
    cell = train(hard_labels(), epochs=51, learning_rate=0.5, tests=tests)
    tested = {row["epoch"]: row["accuracy"] for row in cell["curve"] if "accuracy" in row}
    assert tested.keys() == {41, 51}
    assert cell["accuracy"] == tested[51]
    assert cell["accuracy_best"] == max(tested.values())


def test_a_slow_moving_average_predicts_by_chance():
    # Nearly the initial weights, though the student itself has been trained.
    cell = train(hard_labels(), ema=0.999999)
    assert cell["accuracy"] < 70
    assert train(hard_labels(), ema=1e-9)["accuracy"] == train(hard_labels())["accuracy"]
    assert [row["loss"] for row in cell["curve"]] == [
        row["loss"] for row in train(hard_labels())["curve"]
    ]


def test_seeds_have_no_effect_on_each_other():
    alone = train(hard_labels(MIXED), seed=1)
    train(hard_labels(MIXED), seed=0)
    torch.manual_seed(99)
    assert train(hard_labels(MIXED), seed=1) == alone
    assert train(hard_labels(MIXED), seed=2) != alone
    # A seed is more than the first weights: the views follow it too.
    assert train(hard_labels(MIXED), seed=2, net_seed=1) != alone


@pytest.mark.parametrize("mix", ["cutmix", "mixup"])
@pytest.mark.parametrize("mix_per", ["batch", "row"])
def test_hard_labels_are_mixed_as_the_views_are(mix, mix_per):
    mixed = {**MIXED, "mix": mix, "mix_per": mix_per, "mix_alpha": 0.8}
    labels = hard_labels(mixed, batch_size=7)
    views, targets = labels.epoch(3, seed=5)
    wanted = draw(mixed, 5, 3, 30, 8, 7, "student views")
    assert views.index.tolist() == wanted.index.tolist()
    hard = colours()[1].tolist()
    for place, row in enumerate(targets[:]):
        own, other = hard[views.index[place]], hard[views.index[views.partner[place]]]
        weight = float(views.mix_weight[place])
        by_hand = np.zeros(3)
        by_hand[own] += weight
        by_hand[other] += 1 - weight
        assert row.tolist() == pytest.approx(by_hand.tolist(), abs=1e-6)
    assert labels.epoch(3, seed=6)[0].index.tolist() != views.index.tolist()


def test_hard_labels_of_unmixed_views_are_the_classes():
    views, targets = hard_labels().epoch(0, seed=0)
    assert targets[:].tolist() == np.eye(3)[colours()[1][views.index]].tolist()


def test_steps_have_each_image_with_its_own_label():
    labels = hard_labels(MIXED, batch_size=8)
    calls = []

    def loss(outputs, targets, hard):
        calls.append((outputs, targets, hard))
        return outputs

    n_steps, steps = students.batches(labels, loss, 5, 3, [(0, 8), (8, 16), (16, 24), (24, 30)])
    inputs = []
    for images, of in steps:
        inputs.append(images)
        of(len(images))
    assert n_steps == len(inputs) == 4
    views, targets = labels.epoch(3, 5)
    assert torch.equal(torch.cat(inputs), render(labels.images, views, 0, 30))
    assert [count for count, _, _ in calls] == [8, 8, 8, 6]
    assert torch.equal(torch.cat([t for _, t, _ in calls]), targets[:])
    assert torch.equal(torch.cat([h for _, _, h in calls]), labels.hard[views.index])


@pytest.mark.parametrize("updates", [1, 2])
def test_batchnorm_updates_are_those_of_the_protocol(updates, monkeypatch):
    calls = []
    monkeypatch.setattr(
        students, "set_batchnorm_updates", lambda net, updates: calls.append(updates)
    )
    train(hard_labels(), epochs=1, batchnorm_updates=updates)
    assert calls == [updates]


def family_of(wanted, method, kind):
    (found,) = (
        f.artifact
        for f in wanted.families["students"].values()
        if f.artifact.settings["labels"]["kind"] == kind
        and f.artifact.upstream["distilled"].settings["kind"] == method
        and f.artifact.upstream["distilled"].keys["ipc"] == 2
    )
    return found


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_student_does_not_depend_on_the_other_seeds_of_its_job(made, make, kind):
    artifact = family_of(made, "rded", kind)
    paths = [folder / "cell.json" for folder in make(artifact, [0, 1])]
    together = [path.read_bytes() for path in paths]
    assert together[0] != together[1]
    paths[1].unlink()
    make(artifact, [1])
    assert paths[1].read_bytes() == together[1]


# The default, and recipes with a state or random draws of their own.
RECIPES = [
    ({}, {}),
    (
        {"ema": 0.9, "schedule": "alrs", "rate_decay": 0.5},
        {"randaugment": {"n": 2, "m": 9}, "jitter": 0.4, "lighting": 0.1},
    ),
    ({"ema": 0.5, "schedule": "ssrs"}, {"mix": "none", "siamese": {}}),
]


@pytest.mark.parametrize(("recipe", "views"), RECIPES)
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_resumed_student_has_the_same_bytes(
    made, tiny, planned, make, interrupt, kind, recipe, views
):
    tiny["protocols"][kind] |= {"epochs": 5, **recipe}
    if views:
        labels = tiny["labels"].setdefault(kind, {"kind": kind})
        labels["views"] = {"flip": 0.0, **views}
        if kind == "soft":
            make(family_of(planned(tiny), "rded", kind).upstream["labels"])
    artifact = family_of(planned(tiny), "rded", kind)
    path = make(artifact, [3])[0] / "cell.json"
    undisturbed = path.read_bytes()
    path.unlink()
    # Two steps per epoch: in the middle of the fourth.
    rendered = interrupt(students, "render", 8)
    with pytest.raises(KeyboardInterrupt):
        make(artifact, [3], checkpoint_seconds=0.0)
    make(artifact, [3])
    assert len(rendered) == 8 + 2 * 2
    assert path.read_bytes() == undisturbed


def test_a_student_is_tested_on_the_real_test_split(in_tiny_results):
    cell = store.read_json(family_of(in_tiny_results, "random", "hard").member_file(0))
    # 179 test images of three classes.
    assert cell["accuracy"] * 179 / 100 == pytest.approx(round(cell["accuracy"] * 1.79), abs=1e-4)


@pytest.mark.parametrize(("crop", "whole"), [("center_224_of_256", False), ("center_square", True)])
def test_test_images_are_cropped_by_the_protocol(
    made, tiny, planned, make, monkeypatch, crop, whole
):
    calls, load = [], students.load_split
    monkeypatch.setattr(
        students,
        "load_split",
        lambda *args, **options: calls.append(options) or load(*args, **options),
    )
    tiny["protocols"]["hard"] |= {"test_crop": crop, "epochs": 1}
    make(family_of(planned(tiny), "random", "hard"), [0])
    assert calls == [{"whole": whole}]


@pytest.mark.parametrize("mix_per", ["batch", "row"])
def test_online_labels_train_the_same_students_as_a_table_of_all_epochs(
    made, tiny, planned, make, mix_per
):
    # The same views and, but for float16, the same targets: nearly the same curve.
    tiny["labels"]["soft"] |= {"epochs_stored": 6, "views": {"flip": 0.0, "mix_per": mix_per}}
    tiny["protocols"]["soft"] |= {"epochs": 6, "temperature": 1}
    stored = family_of(planned(tiny), "rded", "soft")
    make(stored.upstream["labels"])
    del tiny["labels"]["soft"]["epochs_stored"]
    tiny["labels"]["soft"]["kind"] = "online"
    online = family_of(planned(tiny), "rded", "online")
    curves = [
        [row["loss"] for row in store.read_json(make(one, [0])[0] / "cell.json")["curve"]]
        for one in (stored, online)
    ]
    assert curves[0] == pytest.approx(curves[1], rel=0.02, abs=1e-3)
    assert curves[0] != curves[1]


def test_a_remainder_of_one_image_is_trained_under_batchnorm_of_one_pixel(tmp_path):
    """Eleven images in steps of ten, as `batch_size: auto` has for eleven classes at IPC 1."""
    labels = HardLabels({"views": MIXED, "batch_size": 10}, *colours(11), 3)
    net = registry.build({"arch": "resnet18_modified"}, 3, 8, 0, "student")
    cell = students.train(net, labels, colours(9), {**TRAINING, "epochs": 1}, 0, Context())
    assert len(cell["curve"]) == 1


@pytest.fixture
def diverging(made, tiny, planned, make):
    """Return a function that plans students at a rate at which they diverge, and computes one."""

    def run(policy):
        tiny["protocols"]["hard"] |= {"optimizer": "sgd", "learning_rate": 1e25}
        tiny["protocols"]["hard"]["on_divergence"] = policy
        wanted = planned(tiny)
        artifact = family_of(wanted, "random", "hard")
        make(artifact, [0], on_divergence=wanted.on_divergence(artifact))
        return artifact

    return run


def test_a_student_that_diverges_is_an_error_or_a_marked_cell(diverging):
    with pytest.raises(
        StillhouseError, match=r"student 0: diverged .*, or set on_divergence: mark"
    ):
        diverging("error")
    artifact = diverging("mark")
    cell = store.read_json(Path(artifact.member_file(0)))
    assert cell["diverged"] is True
    assert {cell[name] for name in ("accuracy", "accuracy_best", "accuracy_top5")} == {None}
    assert cell["n_parameters"] == 315
    assert [row["epoch"] for row in cell["curve"]] == [1]


def test_the_policy_for_divergence_is_in_no_address(diverging, tiny, planned):
    plans = []
    for policy in ("error", "mark"):
        tiny["protocols"]["hard"]["on_divergence"] = policy
        plans.append(planned(tiny))
    first, second = (family_of(plan, "random", "hard") for plan in plans)
    assert first.spec() == second.spec()
    assert [plan.on_divergence(first) for plan in plans] == ["error", "mark"]
    assert plans[1].on_divergence(family_of(plans[1], "random", "soft")) == "error"
