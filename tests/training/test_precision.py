import pytest
import torch
from torch import nn

from invkit.training.precision import autocast, supports_bf16


def test_matrix_products_run_in_bf16_only_where_asked():
    layer, x = nn.Linear(4, 4), torch.randn(2, 4)
    with autocast("cpu", True):
        inside = layer(x)
        with autocast("cpu", False):
            exact = layer(x)
    assert inside.dtype == torch.bfloat16
    assert exact.dtype == layer(x).dtype == torch.float32
    assert torch.equal(exact, layer(x))


@pytest.mark.parametrize("device", ["cpu", "meta", torch.device("cpu")])
def test_support_is_a_plain_answer(device):
    assert supports_bf16(device) in (True, False)


def test_no_support_where_there_is_no_such_device():
    assert not supports_bf16("meta")
