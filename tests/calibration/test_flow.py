"""Calibration of a flow on codes whose posterior is known, and on patches of phantoms."""

import math
from types import SimpleNamespace

import pytest
import torch

from invkit.calibration.flow import calibrate_flow
from invkit.errors import DataError
from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.flow.table import CodeTable
from invkit.vae.vae import Posterior

D = 4


class Affine:
    """v = (z_bar - mean(c)) / width: right for the tables below where the width is 1."""

    def __init__(self, width=1.0):
        self.width = width

    def eval(self):
        return self

    def embed(self, condition):
        return condition

    def __call__(self, z_bar, h):
        return (z_bar - h) / self.width, z_bar.new_full((len(z_bar),), -D * math.log(self.width))

    def inverse(self, v, h):
        return h + self.width * v


def gaussian_table(n, seed=0):
    """Return codes with z_bar ~ N(c, 1): 0.6 of its deviation in the mean, 0.8 in the posterior."""
    random = torch.Generator().manual_seed(seed)
    condition = torch.randn(n, D, generator=random)
    mean = condition + 0.6 * torch.randn(n, D, generator=random)
    return CodeTable(mean, torch.full((n, D), 2 * math.log(0.8)), condition)


PATIENTS = [index // 8 for index in range(320)]


def test_the_right_flow_holds():
    found = calibrate_flow(Affine(), gaussian_table(320), PATIENTS, samples=49, directions=4)
    assert found.holds
    assert found.patients == 40
    assert found.sbc.names == (
        *(f"code {i}" for i in range(D)), *(f"projection {i}" for i in range(4)), "norm of v 0"
    )  # fmt: skip
    assert found.tarp.area.low < 0 < found.tarp.area.high
    assert found.to_json()["patches"] == 320
    assert found.sbc.uniformity.level == found.tarp.curve.level == 1 - 0.05 / 4


@pytest.mark.parametrize(("width", "side"), [(0.6, -1), (1.6, 1)])
def test_a_flow_of_the_wrong_width_does_not(width, side):
    found = calibrate_flow(Affine(width), gaussian_table(320), PATIENTS, samples=49, directions=4)
    assert not found.sbc.holds
    assert "norm of v 0" in found.sbc.failing
    assert math.copysign(1, found.tarp.area.value) == side
    assert not found.tarp.holds
    assert not found.c2st.holds
    assert {"sbc", "tarp", "c2st"} <= set(found.failing)
    assert not found.holds


def test_the_closed_form_start_is_calibrated_on_jointly_normal_codes():
    cinn = CINN(CinnConfig(d=D, blocks=1, hidden=8, context=4), (D,))
    cinn.initialise(gaussian_table(4000, seed=1))
    found = calibrate_flow(cinn, gaussian_table(320, seed=2), PATIENTS, samples=49, directions=4)
    assert found.sbc.holds
    assert found.tarp.holds


def test_same_seed_same_figures():
    once, again, other = (
        calibrate_flow(
            Affine(), gaussian_table(60), [i // 6 for i in range(60)], samples=9, directions=2, seed=s
        )
        for s in (1, 1, 2)
    )
    assert once.to_json() == again.to_json()
    assert once.to_json() != other.to_json()


def test_one_patient_is_refused():
    with pytest.raises(DataError, match="at least 2 held-out patients"):
        calibrate_flow(Affine(), gaussian_table(10), [0] * 10)
    with pytest.raises(DataError, match="9 labels"):
        calibrate_flow(Affine(), gaussian_table(10), range(9))


class Same:
    """g takes z for the image."""

    condition_stages = 0

    def __call__(self, z, size, **_):
        return z


class RowVae:
    """E takes the means of the first rows of a patch."""

    patch, d = 32, D

    decoder = SimpleNamespace(last=SimpleNamespace(device=torch.device("cpu")))

    def encode(self, x):
        mean = x[:, 0, :D].mean(-1) / 100
        return Posterior(mean, torch.full_like(mean, -2.0))
