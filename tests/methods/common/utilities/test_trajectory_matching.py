import pytest
import torch
from stillhouse.artifacts import store
from stillhouse.data.transforms import normalise
from stillhouse.data.whitening import Whitening, fit
from stillhouse.methods.common.utilities.networks import inputs_of, random_network
from stillhouse.methods.common.utilities.siamese import augment
from stillhouse.methods.common.utilities.trajectory_matching import TrajectoryMatching
from stillhouse.methods.common.utilities.work import of_update
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from tests.methods.common.utilities.conftest import DEEP, SETTINGS
from tests.methods.common.utilities.whole_graph import whole_graph

STUDENT = {
    **{"experts": 2, "start_epochs": 2, "expert_epochs": 2, "student_steps": 4},
    **{"student_batch_size": 4, "student_rate": 0.05, "student_rate_step": 1e-3},
    **{"student_rate_minimum": 1e-4, "gradient": "exact"},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the snapshots of two experts after epochs 0 to 3, random weights each."""
    return write_experts(tmp_path_factory.mktemp("experts"), SETTINGS)


def write_experts(folder, settings):
    paths = {}
    for expert in range(2):
        tensors = {}
        for epoch in range(4):
            net = random_network(settings, 0, f"{expert} {epoch}", torch.device("cpu"))
            tensors |= {f"{epoch}.{name}": w for name, w in net.named_parameters()}
        address = str(folder / f"expert{expert}")
        store.write(address, {"address": address}, {"snapshots.safetensors": tensors})
        paths[expert] = folder / f"expert{expert}" / "snapshots.safetensors"
    return paths


@pytest.fixture
def utility(files, siamese):
    """Return a function that makes a `TrajectoryMatching`."""

    def utility(operations=("crop", "rotate"), prepare=normalise, **changes):
        settings, device = {**SETTINGS, **STUDENT, **changes}, torch.device("cpu")
        return TrajectoryMatching(settings, files, siamese(operations), device, prepare)

    return utility


def asked(one, images, iteration):
    """Call a utility; return what it reads: pairs (expert, epoch)."""
    read, calls = one.snapshots.read, []

    def noted(*arguments):
        calls.append(arguments)
        return read(*arguments)

    one.snapshots.read = noted
    one(*images, iteration)
    one.snapshots.read = read
    return calls


@pytest.mark.parametrize("whitened", [False, True])
def test_the_gradient_is_that_of_the_whole_graph(utility, images, real, whitened):
    prepare = Whitening(*fit(real.pixels, 0.1)) if whitened else normalise
    pixels, labels = images
    for iteration in range(3):
        one = utility(prepare=prepare)
        start, target = (one.snapshots.read(*pair) for pair in asked(utility(), images, iteration))
        rows = one._rows(6, iteration, pixels.device)
        drawn = one.siamese.of_steps([len(r) for r in rows], "utility student siamese", iteration)

        def step_loss(t, weights, inputs, rows=rows, drawn=drawn, one=one):
            named = dict(zip(one.names, weights, strict=True))
            outputs = functional_call(
                one.net, named, (augment(inputs_of(inputs, prepare), drawn[t]),)
            )
            return cross_entropy(outputs, labels[rows[t]])

        wanted_loss, wanted, slope = whole_graph(step_loss, rows, pixels, start, target, 0.05)
        loss, gradient = one(pixels, labels, iteration)
        assert loss == pytest.approx(wanted_loss, rel=1e-5)
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6 * wanted.abs().max())
        assert one.learning_rate == pytest.approx(max(0.05 - 1e-3 * slope, 1e-4), rel=1e-4)


def test_starts_and_targets_are_those_of_the_experts(utility, images):
    starts = set()
    for iteration in range(40):
        (expert, epoch), target = asked(utility(), images, iteration)
        assert target == (expert, epoch + 2)
        starts.add((expert, epoch))
    assert starts == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_steps_take_all_images_before_any_again(utility):
    rows = utility(student_steps=5)._rows(6, 0, torch.device("cpu"))
    assert [len(part) for part in rows] == [4, 2, 4, 2, 4]
    for pair in (rows[:2], rows[2:4]):
        assert torch.cat(pair).sort().values.tolist() == list(range(6))
    whole = utility(student_batch_size=0, student_steps=3)._rows(6, 0, torch.device("cpu"))
    assert [len(part) for part in whole] == [6, 6, 6]
    assert not torch.equal(rows[0], utility()._rows(6, 1, torch.device("cpu"))[0])


def test_the_rate_is_learned_with_momentum_and_stays_positive(utility):
    one = utility(student_rate_step=0.01)
    for slope in (1.0, -2.0):
        one._learn(slope)
    assert one.learning_rate == pytest.approx(0.05 - 0.01 * 1 - 0.01 * (0.5 - 2))
    one._learn(1e6)
    assert one.learning_rate == 1e-4


def test_a_restored_utility_continues_with_the_same_numbers(utility, images):
    one = utility()
    undisturbed = [one(*images, iteration) for iteration in range(4)]
    other, resumed = utility(), utility()
    for iteration in range(2):
        other(*images, iteration)
    resumed.restore(other.state())
    for iteration in (2, 3):
        loss, gradient = resumed(*images, iteration)
        assert loss == undisturbed[iteration][0]
        assert torch.equal(gradient, undisturbed[iteration][1])
    assert resumed.learning_rate == one.learning_rate != 0.05


def test_tesla_has_the_same_loss_and_another_gradient(utility, images):
    exact, tesla = (utility(gradient=name)(*images, 0) for name in ("exact", "tesla"))
    assert exact[0] == tesla[0]
    cosine = torch.nn.functional.cosine_similarity(exact[1].flatten(), tesla[1].flatten(), 0)
    assert 0.3 < cosine < 0.9999


@pytest.mark.parametrize("gradient", ["exact", "tesla"])
@pytest.mark.parametrize("batch_size", [0, 3])
def test_its_cost_is_what_torch_counts(tmp_path, siamese, passes, gradient, batch_size):
    settings = {**SETTINGS, **STUDENT, "network": DEEP, "gradient": gradient}
    settings["student_batch_size"] = batch_size
    files = write_experts(tmp_path, settings)
    one = TrajectoryMatching(settings, files, siamese(()), torch.device("cpu"))
    expected, _, at_once = of_update({**settings, "utility": "tm"}, 3, 6)
    assert passes(one, 2) == pytest.approx(expected, rel=0.1)
    assert at_once == 2 * (batch_size or 6)
