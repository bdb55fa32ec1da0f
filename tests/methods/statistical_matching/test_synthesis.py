import math
from pathlib import Path

import numpy as np
import pytest
import torch
from stillhouse.artifacts import store
from stillhouse.artifacts.jobs import Context, produce
from stillhouse.config.schema import definition, fill
from stillhouse.data.class_images import decode, load_split
from stillhouse.data.transforms import normalise
from stillhouse.errors import StillhouseError
from stillhouse.methods.common.initialization import initial
from stillhouse.methods.distilled import read_set
from stillhouse.methods.registry import METHODS
from stillhouse.methods.statistical_matching import losses, statistics, synthesis
from stillhouse.methods.statistical_matching.batches import batches
from stillhouse.methods.statistical_matching.observers import load_observer
from stillhouse.methods.statistical_matching.synthesis import (
    Batch,
    Curve,
    rate,
    synthesise,
    to_bytes,
)
from stillhouse.networks import registry
from stillhouse.training.loop import SideFile
from stillhouse.training.teachers import load_teacher

CPU = torch.device("cpu")
CLASSES = ["0", "1", "2"]
FILES = ["curve.json", "pictures.parquet", "images.parquet"]
OBSERVERS = {
    "a": {"arch": "convnet1", "width": 4, "norm": "batch", "classes": CLASSES},
    # It knows more classes than there are in the dataset, in another order.
    "b": {"arch": "convnet2", "width": 4, "norm": "batch", "classes": ["7", "2", "0", "9", "1"]},
    "c": {"arch": "convnet1", "width": 4, "norm": "instance", "classes": CLASSES},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory, kitchen):
    """Return the files of images, of a set, of observers with random weights, of what they see."""
    folder = tmp_path_factory.mktemp("observers")
    (family,) = kitchen.plan.families["images"].values()
    at = lambda class_id: kitchen.folder / family.artifact.at(class_id=class_id).directory  # noqa: E731
    files = {"images": [at(class_id) / "images.parquet" for class_id in CLASSES]}
    files["set"] = next(
        kitchen.folder / one.directory / "images.parquet"
        for one in kitchen.plan.single["distilled"].values()
        if one.settings["kind"] == "random" and one.keys["ipc"] == 2
    )
    views = {"pad": 0, "crop": [1.0, 1.0], "flip": 0.0, "seed": 0}
    for name, recipe in OBSERVERS.items():
        settings = {**recipe, "resolution": 8}
        net = registry.build(settings, len(recipe["classes"]), 8, 0, "teacher")
        spec = {"stage": "teacher", "settings": settings, "address": f"results/teacher/{name}"}
        store.write(folder / spec["address"], spec, {"model.safetensors": net.state_dict()})
        files[name] = folder / spec["address"] / "model.safetensors"
        settings = {"classes": CLASSES[::-1], "views": views, "tile": 4}
        spec = {"stage": "statistics", "settings": settings, "keys": {}}
        spec["address"] = f"results/statistics/{name}"
        inputs = {"images": files["images"], "teacher": [files[name]]}
        collected = statistics.statistics(inputs, spec, Context(work=folder))(None, Context())
        store.write(folder / spec["address"], spec, collected)
        files[f"{name}'s"] = folder / spec["address"] / "statistics.safetensors"
    return files


def settings_of(kind="edc", fidelity="paper", **given):
    """Return the settings of the stage, and the names of the observers."""
    usual = {"kind": kind, "fidelity": fidelity, "observers": ["a", "b"], "iterations": 6}
    decided = METHODS[kind].resolve(fill({**usual, **given}, definition("method")))
    names = decided["observers"]
    left_out = ("kind", "fidelity", "observers", "statistics", "encoding")
    kept = {name: value for name, value in decided.items() if name not in left_out}
    return {**kept, "classes": CLASSES, "resolution": 8}, names


@pytest.fixture
def make(place, empty):
    """Return a function that synthesises batches; it returns their folders."""

    def make(label, settings, names, numbers=(0,), ipc=2, classes=CLASSES, **resources):
        spec = {"stage": "synthesis", "settings": settings, "keys": {"ipc": ipc, "seed": 0}}
        job = []
        for number in numbers:
            address = f"results/synthesis/{label}/batch{number}"
            keys = {**spec["keys"], "batch": number}
            job.append(({**spec, "keys": keys, "address": address}, number, FILES))
        inputs = {"teachers": [place[name] for name in names]}
        if "convolution" in settings["kinds"]:
            inputs["statistics"] = [place[f"{name}'s"] for name in names]
        if settings["initial"] == "real":
            inputs["images"] = [place["images"][CLASSES.index(c)] for c in classes]
        elif settings["initial"] != "noise":
            inputs["initial"] = [place["set"]]
        produce(synthesis.synthesis, inputs, job, {"device": "cpu", **resources})
        return [Path(spec["address"]) for spec, _, _ in job]

    return make


def bytes_of(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


# Batches


def batch_of(n=4, labels=None, **settings):
    images = torch.randn((n, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(n) % 3 if labels is None else torch.tensor(labels)
    settings = {
        "flatness": {"on": "none"},
        "schedule": "constant",
        "learning_rate": 0.1,
        **settings,
    }
    return Batch(images, labels, settings, {"ipc": 2, "seed": 0, "batch": 0})


def test_steps_are_those_of_adam():
    batch = batch_of()
    images = batch.images.detach().clone().requires_grad_(True)
    adam = torch.optim.Adam([images], betas=(0.5, 0.9), eps=1e-8)
    black, white = (normalise(torch.full((1, 3, 1, 1), v)) for v in (0.0, 255.0))
    for step in range(6):
        generator = torch.Generator().manual_seed(step)
        slope = torch.randn(images.shape, generator=generator) * 10.0 ** (step - 3)
        images.grad, batch.images.grad = slope, slope.clone()
        adam.param_groups[0]["lr"] = 0.5 / (step + 1)
        adam.step()
        with torch.no_grad():
            images.copy_(torch.maximum(torch.minimum(images, white), black))
        batch.step(0.5 / (step + 1))
        torch.testing.assert_close(batch.images, images)
        assert batch.images.grad is None and batch.images.requires_grad


def test_images_stay_in_the_range_of_pixels():
    batch = batch_of()
    for sign in (-1, 1):
        batch.images.grad = torch.full_like(batch.images, sign)
        batch.step(100.0)
        extreme = 0 if sign == 1 else 255
        for channel, (mean, std) in enumerate(((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))):
            wanted = torch.full((4, 8, 8), (extreme / 255 - mean) / std)
            torch.testing.assert_close(batch.images[:, channel].detach(), wanted)
        assert (to_bytes(batch.images) == extreme).all()


def test_every_byte_comes_back():
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3, 1).reshape(1, 3, 16, 16)
    assert np.array_equal(to_bytes(normalise(pixels)), pixels.numpy())
    # To the nearest, and within bytes.
    nearly = normalise(pixels.float() + 0.4), normalise(pixels.float() - 0.4)
    assert all(np.array_equal(to_bytes(images), pixels.numpy()) for images in nearly)
    assert to_bytes(torch.tensor([-9.0, 9.0]).reshape(1, 1, 1, 2).repeat(1, 3, 1, 1)).ravel()[
        :2
    ].tolist() == [0, 255]


def test_averaged_images_follow_the_images():
    batch = batch_of(flatness={"on": "logits", "beta": 0.75})
    average = batch.images.detach().clone()
    assert torch.equal(batch.average, average)
    for step in range(3):
        batch.images.grad = torch.full_like(batch.images, 1.0 + step)
        batch.step(0.2)
        average = 0.75 * average + 0.25 * batch.images.detach()
        torch.testing.assert_close(batch.average, average)
    assert batch_of().average is None


def test_the_cosine_falls_to_zero():
    settings = {"learning_rate": 0.2, "iterations": 8, "schedule": "cosine"}
    rates = [rate(settings, i) for i in range(8)]
    assert rates[0] == 0.2 and rates[4] == pytest.approx(0.1)
    assert rates == pytest.approx([0.1 + 0.1 * math.cos(math.pi * i / 8) for i in range(8)])
    assert {rate({**settings, "schedule": "constant"}, i) for i in range(8)} == {0.2}


# Where it starts

SLOTS = [(label, index) for label in range(3) for index in range(4)]


def start(place, slots=SLOTS, seed=0, classes=CLASSES, **given):
    settings, _ = settings_of(**given)
    settings["classes"] = classes
    inputs = {"images": place["images"]}
    if settings["initial"] not in ("noise", "real"):
        settings["initial"] = "set"
        inputs = {"initial": [place["set"]]}
    return initial(slots, inputs, settings, {"ipc": 4, "seed": seed, "batch": 0}, {})


def test_noise_is_standard_normal(place):
    found = start(place, [(label, i) for label in range(3) for i in range(50)], initial="noise")
    assert found.shape == (150, 3, 8, 8) and found.dtype == torch.float32
    n = found.numel()
    assert abs(found.mean()) < 5 / n**0.5 and abs(found.var() - 1) < 5 * (2 / n) ** 0.5
    assert len(found.unique()) > 0.99 * n


@pytest.mark.parametrize("start_as", ["noise", "real", "random"])
@pytest.mark.parametrize("draw", ["distinct", "replacement"])
def test_a_start_belongs_to_seed_class_and_index(place, start_as, draw):
    given = {"initial": start_as} | ({} if start_as == "noise" else {"initial_draw": draw})
    found = start(place, **given)
    some = [7, 0, 10]
    assert torch.equal(start(place, [SLOTS[i] for i in some], **given), found[some])
    assert not torch.equal(start(place, seed=1, **given), found)
    if start_as != "random":
        # Not by the class's place in the dataset, which a set's labels are.
        turned = start(
            place, [(2 - label, i) for label, i in SLOTS], classes=CLASSES[::-1], **given
        )
        assert torch.equal(turned, found)


def known(place, label):
    """Return {bytes of an image: (place in its class, mirrored)} of the training images."""
    pixels, _ = load_split([place["images"][label]], [CLASSES[label]], 8, "train")
    return as_known(pixels.numpy())


def as_known(pixels):
    found = {}
    for mirrored in (True, False):
        for i, image in enumerate(pixels):
            found[(image[:, :, ::-1] if mirrored else image).tobytes()] = i, mirrored
    return found


def recognised(images, there):
    return [there[image.tobytes()] for image in to_bytes(images)]


def test_real_images_are_each_there_once_while_there_are_enough(place):
    for label in range(3):
        there = known(place, label)
        count = len(there) // 2
        slots = [(label, i) for i in range(count + 3)]
        found = recognised(start(place, slots, flip=0.0), there)
        assert not any(mirrored for _, mirrored in found)
        assert sorted(i for i, _ in found[:count]) == list(range(count))
        assert found[count:] == found[:3]
        assert [i for i, _ in found] != sorted(i for i, _ in found)


def test_real_images_may_be_drawn_anew(place):
    there = known(place, 1)
    count = len(there) // 2
    slots = [(1, i) for i in range(2 * count)]
    found = recognised(start(place, slots, initial_draw="replacement"), there)
    # Of n images, 1 - e⁻² are expected among 2 n draws.
    assert 0.75 * count < len({i for i, _ in found}) < 0.95 * count
    assert 0.4 < np.mean([mirrored for _, mirrored in found]) < 0.6


@pytest.mark.parametrize("flip", [0, 1])
def test_real_images_are_mirrored_as_often_as_they_should(place, flip):
    found = recognised(start(place, [(0, i) for i in range(20)], flip=flip), known(place, 0))
    assert {mirrored for _, mirrored in found} == {bool(flip)}


@pytest.mark.parametrize("draw", ["distinct", "replacement"])
def test_the_images_of_a_set_are_taken_in_their_order_or_drawn(place, draw):
    pixels, labels = read_set(store.read_table(place["set"]))
    slots = [(label, i) for label in (2, 0) for i in range(40)]
    found = start(place, slots, initial="random", initial_draw=draw, flip=0.0)
    for label in (2, 0):
        there = as_known(pixels[labels == label])
        of = recognised(found[[i for i, slot in enumerate(slots) if slot[0] == label]], there)
        places = [i for i, _ in of]
        if draw == "distinct":
            assert places == [i % 2 for i in range(40)]
        else:
            assert 8 < sum(places) < 32 and places != [i % 2 for i in range(40)]


# Observers


def test_observers_say_the_classes_of_the_dataset(place):
    settings, _ = settings_of()
    batch = batch_of(**settings)
    found = load_observer(place["b"], place["b's"], settings, CPU)(batch)
    logits, moments = found(batch.images)
    net, classes, _ = load_teacher(place["b"], CPU)
    outputs = net(batch.images)
    for column, class_id in enumerate(CLASSES):
        torch.testing.assert_close(logits[:, column], outputs[:, classes.index(class_id)])
    assert logits.shape == (4, 3) and list(moments) == found.matching.targets.parts


def test_observers_know_statistics_by_class_id(place):
    """Whatever order they were collected in."""
    settings, _ = settings_of(class_variance="within", tiles="right")
    batch = batch_of(**settings)
    found = load_observer(place["a"], place["a's"], settings, CPU)(batch).matching.targets
    kept = store.read_tensors(place["a's"])
    at = 0
    for part in found.parts:
        for row, name in enumerate(CLASSES):
            mean = kept[f"{part.name}.mean"][CLASSES[::-1].index(name)]
            torch.testing.assert_close(found.class_mean[row, at : at + len(mean)], mean)
        at += len(mean)
    assert at == len(found.mean)
    norms = [p for p in found.parts if p.kind == "batchnorm"]
    net, _, _ = load_teacher(place["a"], CPU)
    column = found.part == found.parts.index(norms[0])
    layer = net.get_submodule(norms[0].layer)
    assert torch.equal(found.mean[column], layer.running_mean)
    assert torch.equal(found.variance[column], layer.running_var)


def test_without_weights_nothing_is_matched(place):
    settings, _ = settings_of("sre2l", weights={"batchnorm": 0})
    found = load_observer(place["a"], None, settings, CPU)(batch_of(**settings))
    assert found.matching is None


# The loop, with descents that note who was asked


@pytest.fixture
def noted(monkeypatch, tmp_path):
    """Return a function that runs the loop with a number as the image; and what it was asked."""
    asked = []

    def descend(batch, observer, iteration):
        asked.append((observer, iteration))
        with torch.no_grad():
            batch.images.fill_(0.05 * (iteration + 1))
        batch.images.grad = torch.zeros_like(batch.images)
        return {"a": torch.tensor(float(iteration)), "b": torch.tensor(-1.0)}

    monkeypatch.setattr(losses, "descend", descend)

    def run(observers=("x",), number=0, n=4, labels=None, **settings):
        asked.clear()
        batch = batch_of(n, labels, **settings)
        batch.keys["batch"] = number
        side = SideFile(Context(work=tmp_path, checkpoint_seconds=1e9))
        return synthesise(batch, observers, side), [*asked]

    return run


@pytest.mark.parametrize(
    ("turns", "number", "first"), [("restart", 1, 0), ("continued", 0, 0), ("continued", 1, 1)]
)
def test_observers_take_turns(noted, turns, number, first):
    # Four steps a batch of three observers: the next batch goes on with the second.
    _, asked = noted("xyz", number, iterations=4, turns=turns)
    wanted = [("xyz"[(first + i) % 3], i) for i in range(4)]
    assert asked == wanted


def test_one_observer_takes_every_turn(noted):
    assert {name for name, _ in noted("x", 3, iterations=5)[1]} == {"x"}


@pytest.mark.parametrize("count", [1, 7, 100, 101, 250])
def test_a_curve_has_means_of_a_hundredth_of_the_steps(noted, count):
    (curve, _), _ = noted(iterations=count)
    every = -(-count // 100)
    chunks = [range(i, min(i + every, count)) for i in range(0, count, every)]
    assert curve["a"] == pytest.approx([sum(chunk) / len(chunk) for chunk in chunks])
    assert curve["b"] == [-1.0] * len(chunks)
    assert len(chunks) <= 100


@pytest.mark.parametrize("count", [4, 5, 6, 8, 9, 10, 13])
def test_pictures_are_of_the_start_and_after_each_quarter(noted, count):
    (_, pictures), _ = noted(iterations=count)
    assert pictures.shape == (5, 3, 3, 8, 8) and pictures.dtype == torch.uint8
    assert np.array_equal(pictures[0].numpy(), to_bytes(batch_of().images[:3]))
    # An iteration is three bytes brighter than the one before.
    done = (pictures[1:, 0, 0, 0, 0].double() / 255 - 0.485) / 0.229 / 0.05
    assert (done - done.round()).abs().max() < 0.2 and done[-1].round() == count
    quarters = torch.tensor([count * k / 4 for k in range(1, 5)])
    assert ((done.round() - quarters).abs() < 1).all()


def test_pictures_are_of_the_first_image_of_up_to_ten_classes(noted):
    labels = [11, 3, 3, 0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 0]
    (_, pictures), _ = noted(n=14, labels=labels, iterations=4)
    assert pictures.shape == (5, 10, 3, 8, 8)
    images = to_bytes(batch_of(14, labels).images)
    rows = [labels.index(label) for label in range(10)]
    assert np.array_equal(pictures[0].numpy(), images[rows])


# The stage


@pytest.mark.parametrize("kind", ["edc", "gvbsm", "sre2l"])
def test_images_lie_by_class_and_index_as_they_were_made(make, kind):
    settings, names = settings_of(kind, batch_size=4, iterations=5)
    several = batches(settings, {"ipc": 2})
    folders = make("x", settings, names, range(len(several)))
    for slots, folder in zip(several, folders, strict=True):
        rows = store.read_table(folder / "images.parquet").to_pylist()
        assert [(row["class_id"], row["index"]) for row in rows] == [
            (CLASSES[label], index) for label, index in slots
        ]
        pixels = np.stack([decode(row["image"]["bytes"]) for row in rows])
        assert pixels.shape == (len(slots), 3, 8, 8) and pixels.dtype == np.uint8
        way = store.read_table(folder / "pictures.parquet").to_pylist()
        first = {label: i for i, (label, _) in reversed([*enumerate(slots)])}
        rows = [first[label] for label in sorted(first)]
        times = [time for time in (0, 1, 2, 3, 5) for _ in rows]
        assert [row["iteration"] for row in way] == times
        last = [decode(row["image"]["bytes"]) for row in way[-len(rows) :]]
        assert np.array_equal(last, pixels[rows])
        curve = store.read_json(folder / "curve.json")
        terms = {"cross_entropy", *settings["kinds"]}
        terms |= {"gvbsm": {"densification"}, "edc": {"flatness"}, "sre2l": set()}[kind]
        assert curve.keys() == terms
        assert all(len(values) == 5 for values in curve.values())


def test_a_batch_alone_is_the_same_as_among_all(make):
    settings, names = settings_of(batch_size=2, iterations=4)
    among = make("all", settings, names, range(3))
    # All that it is told of is the images of its class.
    (alone,) = make("one", settings, names, [1], classes=["1"])
    assert bytes_of(alone) == bytes_of(among[1])
    assert len({bytes_of(folder)["curve.json"] for folder in among}) == 3


def test_the_loss_falls(make):
    given = {"iterations": 60, "learning_rate": 0.1, "crop": [0.8, 1.0], "flip": 0.0}
    settings, names = settings_of("sre2l", **given, observers=["a"], weights={"batchnorm": 0.1})
    (folder,) = make("x", settings, names)
    curve = store.read_json(folder / "curve.json")
    for name in ("cross_entropy", "batchnorm"):
        assert sum(curve[name][-10:]) < 0.6 * sum(curve[name][:10])


LONG = {
    "flat logits": {"flatness": {"on": "logits", "beta": 0.8}, "convolution_dropout": 0.4},
    "sharpness": {"flatness": {"on": "sam"}, "class_terms": "mixture"},
    "G-VBSM": {"kind": "gvbsm", "jitter": 1},
    "SRe2L": {"kind": "sre2l"},
}


@pytest.mark.parametrize("seconds", [0, 1000])
@pytest.mark.parametrize("given", LONG.values(), ids=LONG)
def test_a_stopped_synthesis_goes_on_where_it_was(make, interrupt, monkeypatch, given, seconds):
    # Three steps an entry of the curve: it is stopped between two of them.
    monkeypatch.setattr(synthesis, "CURVE", 3)
    settings, names = settings_of(**{"iterations": 7, "momentum": 0.5, **given})
    (whole,) = make("whole", settings, names)
    calls = interrupt(losses, "descend", 6)
    with pytest.raises(KeyboardInterrupt):
        make("stopped", settings, names, checkpoint_seconds=seconds)
    assert len(calls) == 6
    (found,) = make("stopped", settings, names, checkpoint_seconds=seconds)
    assert len(calls) == 6 + (2 if seconds == 0 else 7)
    assert bytes_of(found) == bytes_of(whole)


def test_who_looks_on_sees_a_picture_beside_the_side_file(make, interrupt):
    settings, names = settings_of()
    interrupt(losses, "descend", 5)
    with pytest.raises(KeyboardInterrupt):
        make("x", settings, names, checkpoint_seconds=0)
    (path,) = Path("results/.work").glob("*/pictures.png")
    # A row a time, three classes side by side: the start, three quarters, and how they are now.
    assert decode(path.read_bytes()).shape == (3, 5 * 8, 3 * 8)


def test_bfloat16_sees_much_the_same(make):
    given = {"iterations": 4, "flatness": {"on": "logits"}}
    curves = []
    for precision in ("float32", "bfloat16"):
        settings, names = settings_of(**given, precision=precision)
        (folder,) = make(precision, settings, names)
        curves.append(store.read_json(folder / "curve.json"))
    exact, rough = curves
    assert exact.keys() == rough.keys() and exact != rough
    # Both are cut in float32: at first the averaged images are the images.
    assert rough["flatness"][0] == pytest.approx(0, abs=1e-9)
    for name in ("cross_entropy", "batchnorm", "convolution"):
        # Signs of small gradients decide where Adam goes: later steps drift apart.
        assert rough[name][0] == pytest.approx(exact[name][0], rel=0.05)
        assert rough[name] == pytest.approx(exact[name], rel=0.2)


def test_observers_without_batch_norms_are_matched_by_convolutions(make):
    settings, _ = settings_of(iterations=4)
    (folder,) = make("x", settings, ["c"])
    curve = store.read_json(folder / "curve.json")
    assert "batchnorm" not in curve and len(curve["convolution"]) == 4


def test_a_term_that_only_some_observers_have_is_the_mean_of_those_and_keeps_its_place():
    curve = Curve()
    for terms_of in ({"a": 1.0}, {"a": 3.0}, {"a": 5.0, "b": 2.0}, {"b": 4.0}):
        curve.add({name: torch.tensor(value) for name, value in terms_of.items()})
        if terms_of == {"a": 3.0}:
            curve.close()
    curve.close()
    curve.add({"a": torch.tensor(7.0)})
    curve.close()
    assert curve.means == {"a": [2.0, 5.0, 7.0], "b": [None, 3.0, None]}
    assert curve.last() == "a 7.0000"


def test_an_observer_without_any_of_the_layers_is_refused(make):
    settings, _ = settings_of("sre2l", iterations=2)
    with pytest.raises(StillhouseError, match="has none of the layers to be matched"):
        make("x", settings, ["c"])
