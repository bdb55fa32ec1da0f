import shutil

import numpy as np
import pytest
import torch
from stillhouse.artifacts import context, formats, store
from stillhouse.artifacts.context import Context
from stillhouse.data.splits import load_split
from stillhouse.errors import StillhouseError
from stillhouse.networks import registry
from stillhouse.planning.inputs import job_inputs
from stillhouse.training import loop, teacher_accuracy, teachers

CPU = torch.device("cpu")


def teacher_of(plan):
    (artifact,) = plan.artifacts["teacher"].values()
    return artifact


def metrics(folder):
    return store.read_json(folder / "metrics.json")


def model(folder):
    return folder / "model.safetensors"


@pytest.fixture
def trained(made, tiny, planned, make):
    """Compute a teacher of high accuracy; return its artifact."""
    tiny["teachers"]["t"] |= {"epochs": 12, "learning_rate": 0.05, "flip": 0, "crop": [0.8, 1]}
    artifact = teacher_of(planned(tiny))
    make(artifact)
    return artifact


def test_a_teacher_learns_and_is_tested_on_the_test_split(trained):
    measured = metrics(trained.directory)
    assert measured["accuracy"] > 80
    assert measured["accuracy_top5"] is None
    assert measured["n_test"] == 59 + 61 + 59
    assert measured["n_parameters"] == 315
    assert [row["epoch"] for row in measured["curve"]] == list(range(1, 13))

    teacher = teachers.load_teacher(model(trained.directory), CPU)
    net, classes, resolution = teacher.net, teacher.class_ids, teacher.resolution
    assert (classes, resolution) == (["0", "1", "2"], 8)
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())
    paths = job_inputs(trained.spec())["images"]
    pixels, labels = load_split(paths, classes, 8, "test", {})
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    inputs = (pixels.numpy() / 255 - mean[:, None, None]) / std[:, None, None]
    right = net(torch.from_numpy(inputs).float()).argmax(1) == labels
    assert measured["accuracy"] == pytest.approx(100 * right.float().mean().item())


def test_the_order_of_classes_is_the_order_of_outputs(made, tiny, planned, make):
    tiny["datasets"]["three"]["classes"] = ["2", "0", "1"]
    tiny["teachers"]["t"] |= {"epochs": 12, "learning_rate": 0.05, "flip": 0, "crop": [0.8, 1]}
    artifact = teacher_of(planned(tiny))
    teacher = teachers.load_teacher(model(make(artifact)), CPU)
    net, classes = teacher.net, teacher.class_ids
    assert classes == ["2", "0", "1"]
    paths = job_inputs(artifact.spec())["images"]
    pixels, _ = load_split(paths, ["2"], 8, "test", {})
    outputs = loop.logits(net, pixels, 64, teachers.normalise)
    assert (outputs.argmax(1) == 0).float().mean() > 0.8


def test_a_teacher_of_a_split_in_a_file_has_the_same_bytes(made, make, monkeypatch):
    artifact = teacher_of(made)
    before = {name: (artifact.directory / name).read_bytes() for name in artifact.stage.files}
    shutil.rmtree(artifact.directory)
    monkeypatch.setattr(context, "MEMORY_BYTES", 0)
    make(artifact)
    assert {name: (artifact.directory / name).read_bytes() for name in before} == before


def test_a_resumed_teacher_has_the_same_bytes(made, tiny, planned, make, interrupt):
    tiny["teachers"]["t"]["epochs"] = 4
    artifact = teacher_of(planned(tiny))
    path = model(make(artifact))
    undisturbed, curve = path.read_bytes(), metrics(path.parent)["curve"]
    path.unlink()
    # Six steps per epoch: in the middle of the third.
    calls = interrupt(teachers, "cut", 15)
    with pytest.raises(KeyboardInterrupt):
        make(artifact, checkpoint_seconds=0.0)
    assert not path.exists()
    make(artifact)
    assert len(calls) == 15 + 2 * 6
    assert path.read_bytes() == undisturbed
    assert metrics(path.parent)["curve"] == curve


def test_inputs_are_crops_flips_and_an_order_of_the_epoch(made, monkeypatch):
    settings = {**teacher_of(made).settings, "flip": 1.0, "crop": [1.0, 1.0], "batch_size": 7}
    images = torch.arange(10, dtype=torch.uint8)[:, None, None, None].repeat(1, 3, 4, 4)
    images[..., -1] += 100
    epochs = []

    def fit(net, settings, batches, *rest, **options):
        for epoch in (0, 0, 1):
            n_steps, steps = batches(epoch)
            epochs.append([inputs for inputs, _ in steps])
            assert len(epochs[-1]) == n_steps == 2
        return []

    monkeypatch.setattr(loop, "fit", fit)
    teachers.train(None, images, torch.zeros(10, dtype=torch.int64), settings, None)
    again, first, second = (torch.cat(inputs) for inputs in epochs)
    assert torch.equal(again, first)
    pixels = first[:, 0] * 0.229 * 255 + 0.485 * 255
    # Every image once, in an order of the epoch, mirrored: the bright column is on the left.
    assert sorted(pixels[:, 0, -1].round().tolist()) == list(range(10))
    assert torch.allclose(pixels[:, 0, 0] - pixels[:, 0, -1], torch.tensor(100.0), atol=0.1)
    assert not torch.equal(first, second)


def test_padded_inputs_are_shifted_images_on_black(made, monkeypatch):
    settings = {**teacher_of(made).settings, "flip": 0.0, "pad": 1, "nesterov": False}
    del settings["crop"]
    images = torch.full((200, 3, 4, 4), 255, dtype=torch.uint8)
    seen = []

    def fit(net, settings, batches, *rest, nesterov):
        assert nesterov is False
        seen.extend(inputs for inputs, _ in batches(0)[1])
        return []

    monkeypatch.setattr(loop, "fit", fit)
    teachers.train(None, images, torch.zeros(200, dtype=torch.int64), settings, None)
    white = torch.cat(seen)[:, 0] > 0
    rows, columns = white.any(2), white.any(1)
    assert torch.equal(white, rows[:, :, None] & columns[:, None, :])
    shifts = {tuple(row) for row in rows.int().tolist()}
    assert shifts == {(1, 1, 1, 1), (1, 1, 1, 0), (0, 1, 1, 1)}
    assert shifts == {tuple(row) for row in columns.int().tolist()}
    assert torch.allclose(torch.cat(seen)[:, 0].min(), torch.tensor(-0.485 / 0.229))


@pytest.mark.parametrize(
    ("min_accuracy", "accuracy", "passes"),
    [(None, 40.1, True), (None, 39.9, False), (95, 94.9, False), (95, 95, True), (0, 0, True)],
)
def test_a_teacher_below_min_accuracy_is_an_error(tiny, planned, min_accuracy, accuracy, passes):
    tiny["teachers"]["t"].pop("min_accuracy")
    if min_accuracy is not None:
        tiny["teachers"]["t"]["min_accuracy"] = min_accuracy
    wanted = planned(tiny)
    artifact = teacher_of(wanted)
    lowest = wanted.min_accuracy(artifact)
    if passes:
        teacher_accuracy.check_accuracy(accuracy, artifact.directory, artifact.settings, lowest)
        return
    with pytest.raises(StillhouseError, match=f"teacher {artifact.name}: test accuracy") as caught:
        teacher_accuracy.check_accuracy(accuracy, artifact.directory, artifact.settings, lowest)
    assert f"below min_accuracy {min_accuracy or 40}% (chance is 33.3%)" in str(caught.value)
    assert str(caught.value).endswith("smaller batches, or lower its min_accuracy")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("n_classes", "below", "above"),
    [(2, 54.9, 55.1), (3, 39.9, 40.1), (10, 18.9, 19.1), (20, 9.9, 10.1), (1000, 0.19, 0.21)],
)
@pytest.mark.parametrize("origin", [{"weights": "5e1f"}, {"pretrained": "IMAGENET1K_V1"}])
def test_the_class_order_is_the_usual_cause_near_chance_alone(n_classes, below, above, origin):
    settings = {"classes": range(n_classes), **origin}
    for accuracy, near in [(100 / n_classes, True), (below, True), (above, False), (89.9, False)]:
        with pytest.raises(StillhouseError) as caught:
            teacher_accuracy.check_accuracy(accuracy, "results/teacher/t", settings, 90)
        assert ("near chance" in str(caught.value)) == near


@pytest.mark.parametrize("n_classes", [1, 2, 5, 6, 10, 100, 1000])
def test_the_default_minimum_is_above_chance_and_can_be_reached(n_classes):
    minimum = teacher_accuracy.default_minimum(n_classes)
    assert 100 / n_classes < minimum < 60 or (n_classes, minimum) == (1, 100)
    assert n_classes < 6 or minimum == pytest.approx(150 / n_classes)


def test_a_complete_teacher_is_checked_against_the_present_min_accuracy(made):
    artifact = teacher_of(made)
    accuracy = metrics(artifact.directory)["accuracy"]
    teacher_accuracy.check_existing(artifact, accuracy)
    with pytest.raises(StillhouseError, match="is below min_accuracy"):
        teacher_accuracy.check_existing(artifact, accuracy + 0.1)


def test_damaged_metrics_are_not_checked(made):
    artifact = teacher_of(made)
    (artifact.directory / "metrics.json").write_text("{}")
    teacher_accuracy.check_existing(artifact, 100)


def test_a_missing_teacher_is_not_checked(empty, tiny, planned):
    teacher_accuracy.check_existing(teacher_of(planned(tiny)), 100)


def test_a_teacher_below_min_accuracy_is_not_stored(made, tiny, planned, make):
    tiny["teachers"]["t"]["seed"] = 5
    artifact = teacher_of(planned(tiny))
    with pytest.raises(StillhouseError, match=r"is below min_accuracy 99\.9%"):
        make(artifact, min_accuracy="99.9")
    assert not model(artifact.directory).exists()


class TestLoadedWeights:
    @pytest.fixture
    def weights(self, trained, tmp_path):
        """Write the weights of a teacher in a foreign format; return the file."""
        state = store.read_tensors(model(trained.directory))
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, "x.pth")
        return tmp_path / "x.pth"

    def loaded(self, planned, tiny, path, sha256):
        network = {k: tiny["teachers"]["t"][k] for k in ("arch", "width", "norm")}
        tiny["teachers"]["t"] = {**network, "weights": {"file": str(path), "sha256": sha256}}
        return teacher_of(planned(tiny))

    def test_weights_are_loaded_and_tested(self, weights, trained, tiny, planned, make):
        artifact = self.loaded(planned, tiny, weights, formats.checksum(weights))
        folder = make(artifact, files={"weights": [weights]}, min_accuracy="50")
        actual = store.read_tensors(model(folder))
        wanted = store.read_tensors(model(trained.directory))
        assert all(torch.equal(actual[name], wanted[name]) for name in wanted)
        assert metrics(folder)["accuracy"] == metrics(trained.directory)["accuracy"]
        assert metrics(folder)["curve"] == []

    def test_another_checksum_stops_the_run(self, weights, tiny, planned, make):
        artifact = self.loaded(planned, tiny, weights, "0" * 64)
        with pytest.raises(
            StillhouseError, match=r"x\.pth: SHA-256 must be 0{64}, .* not [0-9a-f]{64}"
        ) as caught:
            make(artifact, files={"weights": [weights]}, min_accuracy="50")
        assert "\n" not in str(caught.value)

    def test_weights_in_another_class_order_stop_the_run(self, weights, tiny, planned, make):
        tiny["datasets"]["three"]["classes"] = ["1", "2", "0"]
        artifact = self.loaded(planned, tiny, weights, formats.checksum(weights))
        with pytest.raises(
            StillhouseError, match="near chance, the usual cause is the class order"
        ):
            make(artifact, files={"weights": [weights]}, min_accuracy="50")

    def test_weights_of_another_network_stop_the_run(self, weights, tiny, planned, make):
        tiny["teachers"]["t"]["width"] = 5
        artifact = self.loaded(planned, tiny, weights, formats.checksum(weights))
        with pytest.raises(StillhouseError, match="check architecture, width, resolution"):
            make(artifact, files={"weights": [weights]}, min_accuracy="50")


def test_another_seed_is_another_teacher(made, tiny, planned, make):
    before = store.read_tensors(model(teacher_of(made).directory))
    tiny["teachers"]["t"]["seed"] = 1
    other = store.read_tensors(model(make(teacher_of(planned(tiny)))))
    assert not torch.equal(before["features.0.weight"], other["features.0.weight"])
    fresh = registry.build(teacher_of(made).settings, 3, 8, 1, "teacher")
    assert not torch.equal(fresh.features[0].weight, other["features.0.weight"])


def test_logits_are_those_of_the_named_classes():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 4, 4))
    actual = teachers.Teacher(net, ["a", "b", "c", "d"], 2)
    images = torch.linspace(-1, 1, 2 * 12).view(2, 3, 2, 2)
    assert actual.columns(["d", "b"]).tolist() == [3, 1]
    assert torch.equal(actual.logits(images, ["d", "b"]), net(images)[:, [3, 1]])
    assert torch.equal(actual.logits(images, ["a"]), net(images)[:, :1])


@pytest.mark.parametrize(
    ("settings", "origin"),
    [({"weights": "5" * 64}, "file"), ({"pretrained": "V1"}, "library"), ({}, "training")],
)
def test_the_origin_of_weights_is_named(settings, origin):
    assert teacher_accuracy.weights_origin(settings) == origin


def test_a_remainder_of_one_image_is_trained_under_batchnorm_of_one_pixel(tmp_path, made):
    """Nine images in steps of four: the ninth joins the second step."""
    recipe = {**teacher_of(made).settings, "arch": "resnet18_modified", "batch_size": 4}
    net = registry.build(recipe, 3, 8, 0, "teacher")
    images = torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8)
    context = Context(work=tmp_path)
    curve = teachers.train(net, images, torch.arange(9) % 3, recipe | {"epochs": 1}, context)
    assert len(curve) == 1
    with pytest.raises(StillhouseError, match="batch_size: 1 conflicts with batch normalisation"):
        teachers.train(net, images, torch.arange(9) % 3, recipe | {"batch_size": 1}, context)


def test_a_teacher_that_diverges_or_whose_outputs_do_names_what_to_lower(
    made, tiny, planned, make, monkeypatch
):
    tiny["teachers"]["t"] |= {"optimizer": "sgd", "learning_rate": 1e25}
    artifact = teacher_of(planned(tiny))
    with pytest.raises(
        StillhouseError, match=r"teacher 0: diverged in epoch 1, step .*; lower its"
    ):
        make(artifact)
    assert not model(artifact.directory).exists()
    tiny["teachers"]["t"]["seed"] = 3
    artifact = teacher_of(planned(tiny))
    monkeypatch.setattr(
        teachers, "train", lambda net, *rest: net.classifier.bias.data.fill_(float("inf"))
    )
    with pytest.raises(StillhouseError, match="'outputs': 537 of 537 numbers are not finite on"):
        make(artifact)
