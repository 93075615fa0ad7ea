"""The test of units: silent for denoisers in their own units, and telling in others."""

import numpy as np
import pytest
import torch
from torch import nn

import invkit
from invkit.data.phantoms.inserts import INSERTS, draw_inserts
from invkit.denoisers.loaded import LoadedDenoiser, load_denoiser, wrap_module
from invkit.denoisers.spec import Affine
from invkit.denoisers.units import units_test
from invkit.plugins.manager import PluginHost

WIDE = Affine(-1024.0, 4095.0)


def models():
    host = PluginHost()
    return [
        (spec, weights.tag)
        for spec in host.denoisers().values()
        if not spec.name.startswith("oracle")
        for weights in spec.weights
    ]


class Blur(nn.Module):
    """A mean over 3 x 3 pixels of what lies between two numbers, which is all that the network knows."""

    def __init__(self, low, high):
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x):
        return nn.functional.avg_pool2d(x.clamp(self.low, self.high), 3, 1, 1, count_include_pad=False)


def test_the_phantom_has_its_materials_where_it_says():
    drawn = draw_inserts()
    assert drawn.places.keys() == INSERTS.keys()
    for name, place in drawn.places.items():
        assert place.sum() > 200
        assert np.unique(drawn.image[place]).tolist() == [INSERTS[name]]
    assert not np.any(sum(place.astype(int) for place in drawn.places.values()) > 1)


@pytest.mark.parametrize(("spec", "tag"), models(), ids=lambda value: getattr(value, "name", value))
def test_the_denoisers_that_come_along_are_never_warned_of(spec, tag):
    found = units_test(load_denoiser(spec, tag))
    assert found.passed
    assert found.warning == ""
    assert found.worst < 10
    assert found.noise_left < 0.6


@pytest.mark.parametrize("name", ["chen2017", "chen2017-k3", "yang2018"])
@pytest.mark.parametrize(
    "units",
    [
        Affine(0.0, 1.0),
        WIDE,
        Affine(-1000.0, 2000.0),
        Affine(-542.5458 + 1024, 502.1851),
        Affine(40.0, 200.0),
    ],
)
def test_networks_in_wrong_units_are_warned_of_with_figures(name, units):
    loaded = invkit.load(name)
    wrong = LoadedDenoiser(loaded.spec, loaded.network, weights_tag="wrong", preprocessing=units)
    if name == "yang2018" and units == Affine(40.0, 200.0):
        pytest.skip("it moves nothing by more than noise explains")
    found = units_test(wrong)
    assert not found.passed
    assert "Are the units right?" in found.warning
    if found.likely is not None:
        assert found.likely[1] <= found.worst / 3 + 2


@pytest.mark.parametrize(
    ("network", "wrong", "right"),
    [
        (Blur(0, 1), Affine(0.0, 1.0), "0 to 1 from -1024 to 3071 HU"),
        (Blur(-1100, 3100), WIDE, None),
        (Blur(-1, 1), Affine(0.0, 1.0), "0 to 1 from -1024 to 3071 HU"),
        (Blur(-150, 3100), Affine(0.0, 1.0), "the same with 1024 added to HU"),
        (Blur(-1.5, 8), Affine(700.0, 500.0), "the same with 1024 added to HU"),
    ],
)
def test_the_likely_mistake_is_named(network, wrong, right):
    found = units_test(wrap_module(network, preprocessing=wrong))
    if right is None:
        assert found.passed  # a network that clips nothing has no units
        return
    assert found.likely is not None
    assert found.likely[0] == right
    assert f"If the network took {right}, it would move no material by more than" in found.warning


def test_shifts_are_those_of_the_network():
    class Shift(nn.Module):
        def forward(self, x):
            return torch.where(x > 400, x - 100, x + 3)

    found = units_test(wrap_module(Shift()))
    assert found.shifts["bone"] == pytest.approx(-100, abs=0.5)
    assert found.shifts["water"] == pytest.approx(3, abs=0.5)
    assert "f moves bone by -100 HU" in found.warning
    assert found.likely is None or found.likely[0]


def test_what_cannot_be_run_on_the_phantom_is_not_judged():
    class Other(nn.Module):
        def forward(self, x):
            raise ValueError("not today")

    assert units_test(wrap_module(Other())) is None
