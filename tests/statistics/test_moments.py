import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from invkit.errors import InputError
from invkit.statistics.moments import StreamingMoments


def streamed(samples, cuts=()):
    moments = StreamingMoments()
    for chunk in np.split(samples.numpy(), list(cuts)):
        moments.update(torch.from_numpy(chunk))
    return moments


def test_equals_numpy_in_float64_even_far_from_zero():
    samples = torch.randn(50, 2, 1, 4, 5, generator=torch.Generator().manual_seed(0)) + 1e5
    moments = streamed(samples)
    exact = samples.numpy().astype(np.float64)
    np.testing.assert_allclose(moments.mean.numpy(), exact.mean(0), rtol=1e-13)
    np.testing.assert_allclose(moments.std.numpy(), exact.std(0, ddof=1), rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 17), max_size=5))
def test_is_bit_equal_for_any_chunks(cuts):
    samples = torch.randn(17, 3, generator=torch.Generator().manual_seed(1))
    whole, cut = streamed(samples), streamed(samples, sorted(cuts))
    assert torch.equal(whole.mean, cut.mean)
    assert torch.equal(whole.std, cut.std)


@pytest.mark.parametrize("at", [0, 1, 9, 20])
def test_merging_equals_one_run(at):
    samples = torch.randn(20, 6, generator=torch.Generator().manual_seed(2))
    merged = streamed(samples[:at]).merge(streamed(samples[at:]))
    whole = streamed(samples)
    assert merged.count == 20
    torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(merged.std, whole.std, rtol=1e-12, atol=1e-14)


def test_what_is_returned_does_not_alias_the_state():
    moments = streamed(torch.randn(4, 3))
    mean = moments.mean
    moments.mean.add_(1)
    moments.merge(StreamingMoments()).mean.add_(1)
    assert torch.equal(moments.mean, mean)


def test_refuses_what_has_no_answer():
    with pytest.raises(InputError):
        _ = StreamingMoments().mean
    with pytest.raises(InputError, match="at least 2"):
        _ = streamed(torch.ones(1, 2)).std
    with pytest.raises(InputError, match="shape"):
        streamed(torch.ones(2, 2)).update(torch.ones(2, 3))
    with pytest.raises(InputError, match="shape"):
        streamed(torch.ones(2, 2)).merge(streamed(torch.ones(2, 3)))
    with pytest.raises(InputError, match="not finite"):
        streamed(torch.tensor([[1.0], [float("nan")]]))
