import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invkit.training.seeds import derive_seed, generator

PARTS = st.one_of(st.integers(), st.text(max_size=8))


def test_is_the_first_63_bits_of_the_sha256_of_the_canonical_path():
    digest = hashlib.sha256(b'[7,"patches",3]').digest()
    assert derive_seed(7, "patches", 3) == int.from_bytes(digest[:8], "big") // 2


@given(st.integers(), st.lists(PARTS, max_size=4), st.lists(PARTS, max_size=4))
def test_different_paths_give_different_seeds_in_63_bits(seed, one, other):
    first, second = derive_seed(seed, *one), derive_seed(seed, *other)
    assert 0 <= first < 2**63
    assert (first == second) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"), [((1,), ("1",)), (("ab",), ("a", "b")), ((1, 2), (2, 1)), ((), (0,)), (("é",), ("e",))]
)
def test_near_misses_differ(one, other):
    assert derive_seed(0, *one) != derive_seed(0, *other)


def test_numbers_of_numpy_and_torch_count_as_integers_and_floats_do_not():
    assert derive_seed(np.int64(1), np.int32(2)) == derive_seed(1, 2) == derive_seed(1, torch.tensor(2))
    with pytest.raises(TypeError):
        derive_seed(1, 2.0)


def test_generator_is_fresh_each_time_and_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    first = torch.randn(5, generator=generator(3, "x", 1))
    assert torch.equal(first, torch.randn(5, generator=generator(3, "x", 1)))
    assert not torch.equal(first, torch.randn(5, generator=generator(3, "x", 2)))
    assert torch.equal(before, torch.get_rng_state())
