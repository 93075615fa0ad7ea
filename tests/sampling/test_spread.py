"""Deviations that are computed few samples at a time are those of numpy in double precision."""

import numpy as np
import pytest
import torch

from invkit.images.region import choose_region
from invkit.sampling import stack as module
from invkit.sampling.spread import sample_spread, squared_deviations
from invkit.sampling.stack import Stack


@pytest.mark.parametrize("kind", ["tensor", "memory", "file"])
@pytest.mark.parametrize("spec", [None, "2,1,9,8"])
def test_deviations_are_those_of_double_precision(kind, spec, monkeypatch, tmp_path):
    if kind == "file":
        monkeypatch.setattr(module, "IN_MEMORY", 0)
    whole = 1000 + torch.randn(61, 1, 12, 14, generator=torch.Generator().manual_seed(0))
    images = whole if kind == "tensor" else Stack.of(torch.split(whole, 25), 61, tmp_path)
    region = choose_region(spec, (12, 14))
    wanted = whole[:, 0].double().numpy()
    wanted = wanted if spec is None else wanted[:, 1:9, 2:11]
    found = squared_deviations(images, region)
    squares = ((wanted - wanted.mean(0)) ** 2).mean((1, 2)) * 61 / 60
    np.testing.assert_allclose(found.numpy(), squares, rtol=1e-4)
    variance = wanted.var(0, ddof=1).mean()
    assert float(found.mean()) == pytest.approx(variance, rel=1e-4)
    assert sample_spread([images], seed=0, region=region).value == pytest.approx(variance**0.5, rel=1e-4)
