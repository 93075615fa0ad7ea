"""Hidden structures of a linear layer against closed forms and a search of its own."""

import numpy as np
import pytest
import torch
from linear_layer import SIZE, LinearLayer
from scipy.optimize import minimize

from invkit.measures.structures.hidden import DEVIATIONS, hidden_alone, hidden_with_companion
from invkit.tolerance.frame import Frame
from invkit.tolerance.layer import Crops, TolerancedLayer
from invkit.tolerance.marks import Marks

TOLERANCE = 0.5


@pytest.fixture(scope="module")
def linear():
    return LinearLayer()


def toleranced(linear, tolerance=TOLERANCE):
    return TolerancedLayer(
        linear.split,
        linear.x,
        linear.split.denoiser(linear.x),
        linear.covariance,
        linear.windows,
        Marks({"given": tolerance}, 1.0, "given"),
        Frame(0, (SIZE, SIZE)),
        linear.tangent,
    )


def crops_of(linear, count):
    return Crops(
        linear.x.expand(count, -1, -1, -1),
        torch.zeros(count, 2, dtype=torch.int64),
        linear.windows,
        linear.covariance,
    )


def structures(count=3):
    found = torch.zeros(count, 1, SIZE, SIZE, dtype=torch.float64)
    for index in range(count):
        found[index, 0, 3 + index : 8, 4:9] = 10.0
    return found


def distance(linear, change):
    scaled = (linear.jacobian @ change.flatten()) / linear.s
    return float(scaled.square().mean().sqrt())


def test_alone_it_is_the_tolerance_over_the_distance(linear):
    d = structures()
    found = hidden_alone(linear.split, crops_of(linear, 3), d, TOLERANCE)
    for one, c in zip(d, found, strict=True):
        assert 0.97 * TOLERANCE < float(c) * distance(linear, one) <= TOLERANCE


def test_it_falls_with_the_tolerance(linear):
    d = structures(1)
    small, large = (hidden_alone(linear.split, crops_of(linear, 1), d, t) for t in (0.1, 0.4))
    assert float(large / small) == pytest.approx(4, rel=0.03)


def search(linear, d):
    """Return the strongest c that a general optimiser finds from several starts, for d + n with n^T C^-1 n <= 4."""
    unit = torch.eye(SIZE * SIZE, dtype=torch.float64).view(-1, 1, SIZE, SIZE)
    root = linear.covariance.root(unit).flatten(1).T
    seen = (linear.jacobian @ root / linear.s[:, None]).numpy()
    own = (linear.jacobian @ d.flatten() / linear.s).numpy()
    limit, best = TOLERANCE**2 * len(own), 0.0
    rng = np.random.default_rng(0)

    def far(v):
        rest = v[0] * own + seen @ v[1:]
        return limit - rest @ rest, np.concatenate([[-2 * rest @ own], -2 * seen.T @ rest])

    def rare(v):
        return DEVIATIONS**2 - v[1:] @ v[1:], np.concatenate([[0.0], -2 * v[1:]])

    for _ in range(3):
        start = np.concatenate([[0.1], 0.1 * rng.standard_normal(seen.shape[1])])
        found = minimize(
            lambda v: (-v[0], np.concatenate([[-1.0], np.zeros(len(v) - 1)])),
            start,
            jac=True,
            method="SLSQP",
            constraints=[
                {"type": "ineq", "fun": lambda v, c=c: c(v)[0], "jac": lambda v, c=c: c(v)[1]}
                for c in (far, rare)
            ],
            options={"maxiter": 200},
        )
        if min(far(found.x)[0] / limit, rare(found.x)[0]) > -1e-3:
            best = max(best, found.x[0])
    return best


def test_with_a_companion_no_search_finds_a_stronger_one(linear):
    d = structures(2)
    crops = crops_of(linear, 2)
    alone = hidden_alone(linear.split, crops, d, TOLERANCE)
    found = hidden_with_companion(toleranced(linear), crops, d, alone)
    assert (found >= alone).all()
    for one, c in zip(d, found, strict=True):
        assert float(c) == pytest.approx(search(linear, one), rel=0.05)


def test_what_a_layer_does_not_see_is_hidden_without_bound(linear):
    blind = LinearLayer()
    with torch.no_grad():
        blind.network[0].weight.zero_()
    found = hidden_alone(blind.split, crops_of(blind, 1), structures(1), TOLERANCE)
    assert float(found) > 1e6
