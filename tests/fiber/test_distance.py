import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from invkit.errors import InputError
from invkit.fiber.distance import activation_distance


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(3,), (4, 5), (2, 3, 7), ()])
def test_equals_numpy_in_float64(shape):
    a, b = normal(6, *shape), normal(6, *shape, seed=1)
    difference = (a.numpy().astype(np.float64) - b.numpy()).reshape(6, -1)
    found = activation_distance(a, b)
    assert found.dtype == torch.float64
    assert found.shape == (6,)
    np.testing.assert_allclose(found.numpy(), np.sqrt((difference**2).mean(axis=1)), rtol=1e-6)


def test_one_activation_is_compared_with_all():
    a, b = normal(5, 2, 3), normal(1, 2, 3, seed=1)
    assert torch.equal(activation_distance(a, b), activation_distance(a, b.expand(5, -1, -1)))


def test_a_set_of_layers_counts_by_its_elements():
    a = (torch.full((2, 3), 1.0), torch.zeros(2, 1, 5))
    b = (torch.zeros(2, 3), torch.full((2, 1, 5), 3.0))
    expected = ((3 * 1 + 5 * 9) / 8) ** 0.5
    assert activation_distance(a, b).tolist() == pytest.approx([expected] * 2)
    joined = torch.cat([part.flatten(1) for part in a], 1), torch.cat([part.flatten(1) for part in b], 1)
    torch.testing.assert_close(activation_distance(a, b), activation_distance(*joined))
    assert torch.equal(activation_distance((a[0],), (b[0],)), activation_distance(a[0], b[0]))


def test_equal_activations_are_at_distance_zero_and_it_is_symmetric():
    a, b = normal(4, 9), normal(4, 9, seed=2)
    assert torch.equal(activation_distance(a, a), torch.zeros(4, dtype=torch.float64))
    assert torch.equal(activation_distance(a, b), activation_distance(b, a))


def test_half_precision_does_not_overflow():
    a = torch.full((2, 4), 1000.0, dtype=torch.float16)
    assert activation_distance(a, -a).tolist() == [2000.0, 2000.0]


def test_large_activations_keep_small_differences():
    a = torch.full((1, 10_000), 1e4)
    b = a.clone()
    b[0, 0] += 0.125
    assert activation_distance(a, b).item() == pytest.approx(0.125 / 100)


class Largest(TorchDispatchMode):
    """Notes the most elements that any operation gave new memory to."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = {part.untyped_storage().data_ptr() for part in args if isinstance(part, torch.Tensor)}
        if isinstance(result, torch.Tensor) and result.untyped_storage().data_ptr() not in given:
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_activations_are_read_as_they_lie_in_memory(memory):
    a, b = (normal(n, 32, 48, 64, seed=n) for n in (3, 1))
    expected = activation_distance(a, b)
    a, b = (part.to(memory_format=memory) for part in (a, b))
    with Largest() as largest:
        found = activation_distance(a, b)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    assert 0 < largest.elements < a[0].numel()  # pieces, and no copy of an activation
    mixed = activation_distance(a, b.to(memory_format=torch.contiguous_format))
    torch.testing.assert_close(mixed, expected, rtol=1e-12, atol=0)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="shape"):
        activation_distance(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(InputError, match="shape"):
        activation_distance((torch.zeros(2, 3),), (torch.zeros(2, 3), torch.zeros(2, 3)))
    with pytest.raises(InputError, match="number"):
        activation_distance(torch.zeros(3, 2), torch.zeros(2, 2))
    with pytest.raises(InputError, match="number"):
        activation_distance(torch.zeros(1, 2), torch.zeros(2, 2))
    with pytest.raises(InputError, match="number"):
        activation_distance((torch.zeros(2, 2), torch.zeros(3, 2)), (torch.zeros(1, 2), torch.zeros(1, 2)))
