"""The contract of `Part`, checked on every part in float64 against autograd (E4)."""

import copy

import pytest
import torch

from invkit.flow.actnorm import ActNorm
from invkit.flow.affine import ConditionalAffine, Whitening
from invkit.flow.base import Part
from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.flow.coupling import Block, Coupling, CouplingNet
from invkit.flow.diagnostics import log_det_error, round_trip_error
from invkit.flow.mixing import Permutation, Rotation
from invkit.training.seeds import generator

D, K = 7, 6
SMALL = CinnConfig(d=D, blocks=2, hidden=12, context=K, embedder_hidden=10)
SEPARATE = SMALL.model_copy(update={"separate": True, "activation": "leaky_relu", "depth": 2, "clamp": 1.0})
ROTATED = SMALL.model_copy(update={"mixing": "rotation", "affine": False, "context": 5})


def source():
    return generator(3, "test")


PARTS = {
    "actnorm": (lambda: ActNorm(D), K),
    "affine": (lambda: ConditionalAffine(4.0), 2 * D),
    "whitening": (lambda: Whitening(D), K),
    "permutation": (lambda: Permutation(D, 1), K),
    "rotation": (lambda: Rotation(D, 1), K),
    "coupling": (lambda: Coupling(D, K, SMALL, generator=source()), K),
    "separate coupling": (lambda: Coupling(D, K, SEPARATE, generator=source()), K),
    "block": (lambda: Block(D, K, SMALL, seed=1, generator=source()), K),
    "cinn": (lambda: CINN(SMALL, (2, D)), 2 * D + K),
    "rotated cinn": (lambda: CINN(ROTATED, (2, D)), 5),
}


def shaken(part: Part, scale: float = 0.3) -> Part:
    """Give every parameter a value that is not its trivial start."""
    with torch.no_grad():
        for parameter in part.parameters():
            noise = torch.randn(parameter.shape, generator=source(), dtype=torch.float64)
            parameter.add_(scale * noise.to(parameter))
    return part


@pytest.fixture(params=PARTS.values(), ids=PARTS.keys())
def case(request):
    make, k = request.param
    z_bar = torch.randn(5, D, generator=source(), dtype=torch.float64)
    h = torch.randn(5, k, generator=source(), dtype=torch.float64)
    return shaken(make()).double(), z_bar, h


def test_the_inverse_undoes_the_map(case):
    assert round_trip_error(*case) < 1e-10


def test_log_det_is_that_of_the_jacobian(case):
    part, z_bar, h = case
    assert part(z_bar, h)[1].shape == (5,)
    assert log_det_error(part, z_bar, h) < 1e-6


def test_gradients_reach_every_parameter(case):
    part, z_bar, h = case
    if isinstance(part, CINN):
        h = part.embed(torch.randn(5, 2, D, generator=source(), dtype=torch.float64))
    v, log_det = part(z_bar, h)
    if not list(part.parameters()):
        return
    (v.square().sum() - log_det.sum()).backward()
    dead = [n for n, p in part.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


def test_state_dict_round_trip(case):
    part, z_bar, h = case
    other = copy.deepcopy(part)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(part.state_dict())
    assert torch.equal(other(z_bar, h)[0], part(z_bar, h)[0])


def test_samples_of_one_image_share_its_embedding(case):
    """h `(B, k)` is broadcast over leading dimensions of the code, to the same numbers as when repeated."""
    part, z_bar, h = case
    many = torch.stack([z_bar, 2 * z_bar, -z_bar])
    v, log_det = part(many, h)
    assert log_det.shape == (3, 5)
    torch.testing.assert_close(v[1], part(2 * z_bar, h)[0])
    torch.testing.assert_close(part.inverse(v, h), many)


def test_a_batch_row_depends_on_itself_alone(case):
    part, z_bar, h = case
    torch.testing.assert_close(part(z_bar[2:3], h[2:3])[0], part(z_bar, h)[0][2:3])


@pytest.mark.parametrize("make", [lambda: Permutation(16, 5), lambda: Rotation(16, 5)])
def test_mixing_is_made_from_its_seed_and_not_stored(make):
    part, eye = make(), torch.eye(16)
    assert not part.state_dict()
    assert torch.equal(part(eye, eye)[0], make()(eye, eye)[0])
    other = type(part)(16, 6)
    assert not torch.equal(part(eye, eye)[0], other(eye, eye)[0])


def test_a_rotation_is_orthogonal_in_every_precision():
    there_and_back = Rotation(32, 0).half().double()
    gram = there_and_back.matrix.T @ there_and_back.matrix
    assert float((gram - torch.eye(32, dtype=torch.float64)).abs().max()) < 1e-13
    assert torch.equal(there_and_back.float().matrix, Rotation(32, 0).matrix)


def test_a_forward_never_initialises_an_actnorm():
    norm = ActNorm(4)
    z_bar = 3.0 + 2.0 * torch.randn(64, 4, generator=source())
    for training in (True, False):
        norm.train(training)
        assert torch.equal(norm(z_bar, z_bar)[0], z_bar)
        assert not norm.initialised
    norm.initialise(z_bar, z_bar)
    v, log_det = norm(z_bar, z_bar)
    torch.testing.assert_close(v.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(v.std(0, correction=0), torch.ones(4))
    torch.testing.assert_close(log_det[0], -z_bar.std(0, correction=0).log().sum())
    restored = ActNorm(4)
    restored.load_state_dict(norm.state_dict())
    assert restored.initialised
    assert torch.equal(restored(z_bar, z_bar)[0], v)


def test_an_actnorm_leaves_constant_dimensions_finite():
    norm = ActNorm(2)
    norm.initialise(torch.full((8, 2), 7.0), torch.zeros(8, 1))
    assert torch.equal(norm(torch.full((1, 2), 7.0), torch.zeros(1, 1))[0], torch.zeros(1, 2))


@pytest.mark.parametrize("mixing", ["permutation", "rotation"])
def test_the_default_network_inverts_in_fp32(mixing):
    """E4: below 1e-4, with parameters far from their start."""
    cinn = shaken(CINN(CinnConfig(mixing=mixing), (2, 256)), 0.02).eval()
    z_bar, condition = torch.randn(64, 256, generator=source()), torch.randn(64, 2, 256, generator=source())
    h = cinn.embed(condition).detach()
    with torch.no_grad():
        v, log_det = cinn(z_bar, h)
    assert float((v - z_bar).abs().mean()) > 0.3
    assert float(log_det.abs().mean()) > 1.0
    assert round_trip_error(cinn, z_bar, h) < 1e-4


@pytest.mark.parametrize("config", [SMALL, SEPARATE], ids=["silu", "leaky_relu"])
def test_without_gradient_networks_work_in_place_and_give_the_same(config):
    net = shaken(CouplingNet(4, K, 6, config, generator=source()))
    a, h = torch.randn(3, 5, 4, generator=source()), torch.randn(5, K, generator=source())
    given = a.clone(), h.clone()
    expected = net(a, h)
    with torch.no_grad():
        assert torch.equal(net(a, h), expected)
    assert torch.equal(a, given[0])
    assert torch.equal(h, given[1])


def test_an_outer_autocast_does_not_reach_the_map():
    cinn = shaken(CINN(SMALL, (2, D)))
    z_bar, condition = torch.randn(5, D, generator=source()), torch.randn(5, 2, D, generator=source())
    h = cinn.embed(condition)
    with torch.autocast("cpu", torch.bfloat16):
        v, _ = cinn(z_bar, h)
        back = cinn.inverse(v, h)
    assert torch.equal(v, cinn(z_bar, h)[0])
    assert torch.equal(back, cinn.inverse(v, h))
