"""Denoisers that pass no gradient: what differences of f alone can tell."""

import math
import re

import numpy as np
import torch

import invkit


def halved(image):
    return np.asarray(0.5 * image + 20.0)


def test_a_function_of_arrays_is_analysed_at_its_output_by_differences():
    result = invkit.analyze(halved, layer="output", sampler="training-free", samples=2, refine=2)
    layer = result.layers[0]
    (said,) = layer.conclusion.asked
    assert not layer.conclusion.interpretable
    assert "f passes no gradient to the image" in said
    small, large, left, noise = _figures(said)
    assert small == large == 50
    assert math.isclose(left, noise / 2, rel_tol=0.01)
    assert "for that needs a gradient" in said
    assert torch.allclose(result.f_x, 0.5 * result.x + 20.0)


def _figures(said):
    small, large = (float(value) for value in re.findall(r"([\d.]+) % of that", said))
    left, noise = re.search(r"leaves ([\d.]+) of ([\d.]+) HU", said).groups()
    return small, large, float(left), float(noise)


def test_rounding_from_call_to_call_is_stated():
    calls = iter(range(10**6))

    def rounding(image):
        return np.asarray(0.5 * image + 0.0007 * (next(calls) % 2))

    result = invkit.analyze(rounding, layer="output", sampler="training-free", samples=2, refine=2)
    assert any("differ by up to" in warning and "by rounding" in warning for warning in result.all_warnings)
