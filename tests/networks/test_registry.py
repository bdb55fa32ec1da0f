import re
from pathlib import Path

import pytest
import torch
from stillhouse.config import protocols
from stillhouse.data.transforms import normalise
from stillhouse.networks import registry


def build(arch="convnet1", n_classes=3, resolution=8, seed=0, stage="student", **settings):
    settings = {"arch": arch, "width": 4, "norm": "batch", **settings}
    return registry.build(settings, n_classes, resolution, seed, stage)


def n_parameters(net):
    return sum(p.numel() for p in net.parameters())


def equal(first, second):
    return all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


@pytest.mark.parametrize("arch", ["convnet2", "resnet18_modified"])
def test_weights_depend_on_the_seed_alone(arch):
    first = build(arch)
    torch.manual_seed(123)
    torch.rand(7)
    assert equal(build(arch), first)
    assert not equal(build(arch, seed=1), first)
    assert not equal(build(arch, stage="teacher"), first)


def test_the_global_random_state_is_restored():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    build("resnet18_modified")
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(RuntimeError), registry.global_generator(0, "student"):
        torch.rand(3)
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before)


def test_the_global_generator_is_seeded_by_its_address():
    def numbers(*address):
        with registry.global_generator(*address):
            return torch.rand(3).tolist()

    assert numbers(0, "dropout", 1) == numbers(0, "dropout", 1)
    others = [(0, "dropout", 1), (1, "dropout", 1), (0, "weights", 1), (0, "dropout", 2)]
    assert len({tuple(numbers(*address)) for address in others}) == 4


def rows_of_the_docs():
    text = (Path(__file__).parents[2] / "docs/networks.md").read_text()
    for line in text.splitlines():
        if line.startswith("| `") and not line.startswith("| `arch`"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_the_docs_list_every_network_with_its_parameters_and_rate():
    rows = {name: row for row in rows_of_the_docs() for name in re.findall(r"`([^`]+)`", row[0])}
    assert registry.ARCHITECTURES.keys() | protocols.LEARNING_RATES.keys() <= rows.keys()
    for name, row in rows.items():
        rate = protocols.LEARNING_RATES.get(name)
        assert row[4].startswith(str(rate) if rate else "–"), name
    for name in registry.ARCHITECTURES:
        *counts, task = re.findall(r"([\d,]+\d)(?: |$)|\((\d+, \d+)\)", rows[name][2])
        n_classes, resolution = map(int, task[1].split(", "))
        norm = "instance" if "`norm` instance" in rows[name][1] else "batch"
        net = build(name, n_classes, resolution, width=128, norm=norm, dropout=0.01)
        assert f"{n_parameters(net):,}" in [count for count, _ in counts], name


@pytest.mark.parametrize("arch", ["convnet2", "resnet18_modified"])
def test_inputs_are_converted_to_the_normalisation_of_a_network(arch):
    settings = {"arch": arch, "width": 4, "norm": "batch"}
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    plain = registry.build(settings, 3, 8, 0, "student").eval()
    own = registry.build({**settings, "normalisation": [mean, std]}, 3, 8, 0, "student").eval()
    assert own.state_dict().keys() == plain.state_dict().keys()
    pixels = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
    by_hand = (pixels / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    images = normalise(pixels).requires_grad_(True)
    torch.testing.assert_close(own(images), plain(by_hand))
    assert not torch.allclose(own(images), plain(normalise(pixels)))
    # The first convolution has the converted inputs; images have a gradient.
    recorded = []
    first = next(m for m in own.modules() if isinstance(m, torch.nn.Conv2d))
    first.register_forward_pre_hook(lambda module, inputs: recorded.append(inputs[0]))
    own(images).sum().backward()
    torch.testing.assert_close(recorded[0], by_hand)
    assert images.grad.abs().sum() > 0
