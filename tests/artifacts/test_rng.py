import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from stillhouse.artifacts.rng import generator, key, permutation


def numbers(*address):
    return generator(*address).random(4).tolist()


def test_an_address_gives_the_same_numbers_again():
    assert numbers(3, "crops", "n01440764", 7) == numbers(3, "crops", "n01440764", 7)


def test_each_part_of_the_address_matters():
    addresses = [
        (0, "crops", "a", "i"),
        (1, "crops", "a", "i"),
        (0, "views", "a", "i"),
        (0, "crops", "b", "i"),
        (0, "crops", "a", "j"),
        (0, "crops", "i", "a"),
        (0, "crops", "ai", ""),
        (0, "crops", "", "ai"),
        (0, "cropsa", "", "i"),
        (10, "crops", "a", ""),
    ]
    assert len({key(*address) for address in addresses}) == len(addresses)
    assert len({tuple(numbers(*address)) for address in addresses}) == len(addresses)


def test_the_key_is_the_start_of_a_checksum():
    # printf '0\037views\037\0373' | sha256sum
    assert key(0, "views", item=3) == int.from_bytes(
        bytes.fromhex("852c5956fc8c499192b5b219610f5d2c"), "little"
    )


def test_the_numbers_of_an_address_do_not_change():
    expected = [0.569077265760796, 0.13357277634092046, 0.5193279649297062, 0.174918301348428]
    assert numbers(1, "crops", "7", "digits-0001") == expected
    order = permutation(generator(0, "preselect", "3"), 8).tolist()
    assert order == [7, 2, 1, 5, 0, 4, 6, 3]


@given(st.integers(0, 60), st.integers(-5, 5))
def test_a_permutation_has_every_number_once(n, seed):
    assert sorted(permutation(generator(seed, "test"), n).tolist()) == list(range(n))


def test_permutations_are_uniform():
    firsts = [permutation(generator(seed, "test"), 4)[0] for seed in range(2000)]
    assert (np.abs(np.bincount(firsts, minlength=4) - 500) < 100).all()
