"""Products with the Jacobian agree with autograd's own Jacobian, by both ways of computing them."""

import pytest
import torch
from torch import nn
from torch.func import functionalize

from invkit.errors import SplitError
from invkit.fiber import linearise
from invkit.fiber import tangent as tangent_module
from invkit.fiber.linearise import Linearisation, dot
from invkit.fiber.tangent import Tangent
from invkit.split.split import Split


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(4, 3, 3, stride=2), nn.Tanh()
    ).double()


def images(n=3, size=8):
    return torch.randn(n, 1, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def jacobians(split, x):
    """Return J of each image, `(N, M, H * W)`, by one backward pass for each element of z."""
    rows = []
    for one in x:
        full = torch.autograd.functional.jacobian(lambda image: split.phi_grad(image[None]).flatten(), one)
        rows.append(full.reshape(len(full), -1))
    return torch.stack(rows)


@pytest.fixture(params=["traced", "by autograd"])
def way(request, monkeypatch):
    if request.param == "by autograd":
        monkeypatch.setattr(linearise.Tangent, "at", lambda self, x: None)
    return request.param


@pytest.mark.parametrize("layer", ["0", "2", "3", "input"])
def test_both_products_are_those_of_the_full_jacobian(way, layer):
    split, x = Split(network(), layer), images()
    at, full = Linearisation(split.phi_grad, x), jacobians(Split(network(), layer), x)
    p = torch.randn_like(x)
    (product,) = at.forward(p)
    torch.testing.assert_close(product.flatten(1), torch.einsum("nmk,nk->nm", full, p.flatten(1)))
    q = torch.randn_like(product)
    torch.testing.assert_close(at.transposed((q,)).flatten(1), torch.einsum("nmk,nm->nk", full, q.flatten(1)))


def test_a_set_of_layers_has_one_jacobian(way):
    split, x = Split(network(), "0+2"), images()
    at = Linearisation(split.phi_grad, x)
    p = torch.randn_like(x)
    product = at.forward(p)
    q = tuple(torch.randn_like(part) for part in product)
    torch.testing.assert_close(dot(product, q), dot((p,), (at.transposed(q),)))
    for part, layer in zip(product, ("0", "2"), strict=True):
        alone = Linearisation(Split(network(), layer).phi_grad, x).forward(p)[0]
        torch.testing.assert_close(part, alone)


def test_an_operation_without_forward_mode_is_no_obstacle():
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 3 * x**2 * g

    x = images(2)
    at = Linearisation(Cube.apply, x)
    p = torch.randn_like(x)
    torch.testing.assert_close(at.forward(p)[0], 3 * x**2 * p)


def test_what_gives_no_gradient_cannot_be_linearised():
    with pytest.raises(SplitError, match="no gradient"):
        Linearisation(lambda x: x.detach().round(), images())


class Odd(nn.Module):
    """Adds to its own output in place."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1).double()

    def forward(self, x):
        h = self.first(x)
        kept = 2 * h
        h.relu_()
        return kept + h


class Seen(nn.Module):
    """Changes its output in place while a view of it is held."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1).double()

    def forward(self, x):
        h = self.first(x)
        rows = h.flatten(1)
        nn.functional.leaky_relu(h, 0.1, inplace=True)
        return h.square(), rows * 2


def test_one_trace_serves_every_image_of_its_shape():
    split = Split(network(), "3")
    calls = []
    tangent = Tangent(lambda x: (calls.append(1), split.phi_grad(x))[1])
    for seed in range(4):
        x = torch.randn(3, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        p = torch.randn_like(x)
        expected = torch.func.jvp(split.phi_grad, (x,), (p,))[1]
        torch.testing.assert_close(tangent.at(x).forward(p)[0], expected)
        if seed == 0:
            traced = len(calls)
    assert len(calls) == traced


class Common(nn.Module):
    """What most denoisers are made of: convolutions, batch normalisation, ReLU in place, a skip connection."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 1, 3, padding=1),
        )

    def forward(self, x):
        out = self.body(x)
        out += x
        return out


class Counting(nn.Module):
    """Keeps a number that grows with every pass."""

    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.zeros((), dtype=torch.float64))

    def forward(self, x):
        self.passes += 1
        return x * self.passes


@pytest.mark.parametrize("kind", [Odd, Common, Seen])
def test_what_writes_in_place_is_traced_as_if_it_did_not(kind):
    torch.manual_seed(0)
    net = kind().double().eval()
    for name, buffer in net.named_buffers():
        if name.endswith(("mean", "var")):
            buffer += torch.rand_like(buffer)
    tangent, p = Tangent(net), torch.randn(2, 1, 8, 8, dtype=torch.float64)
    for seed in range(3):
        x = torch.randn(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        products, expected = tangent.at(x), torch.func.jvp(net, (x,), (p,))[1]
        # Twice, for a product must not change what the next one needs.
        for _ in range(2):
            found = products.forward(p)
            torch.testing.assert_close(found if isinstance(expected, tuple) else found[0], expected)
    assert next(iter(tangent._graphs.values())) is not None


@pytest.mark.parametrize(("kind", "again"), [(Common, False), (Seen, True)])
def test_activations_in_place_are_traced_once(monkeypatch, kind, again):
    calls = []
    monkeypatch.setattr(
        tangent_module, "functionalize", lambda *a, **k: (calls.append(1), functionalize(*a, **k))[1]
    )
    assert Tangent(kind().double().eval()).at(torch.randn(2, 1, 8, 8, dtype=torch.float64)) is not None
    assert bool(calls) == again


def test_what_keeps_something_from_pass_to_pass_is_not_traced():
    net = Counting()
    assert Tangent(net)._traced(images(2)) is None


def test_what_left_torch_on_its_way_is_not_traced():
    def phi(x):
        return x * torch.from_numpy(x.detach().numpy().mean((1, 2, 3), keepdims=True))

    for seed in range(2):
        x, p = images(2) + seed, torch.randn(2, 1, 8, 8, dtype=torch.float64)
        assert Tangent(phi).at(x) is None
        expected = p * x.mean((1, 2, 3), keepdim=True)
        torch.testing.assert_close(Linearisation(phi, x).forward(p)[0], expected)


def test_what_looks_at_values_is_not_traced():
    def phi(x):
        return x * 2 if x.sum().item() > 0 else x * 3

    for sign, factor in ((1, 2), (-1, 3)):
        x = sign * torch.ones(1, 1, 4, 4)
        p = torch.randn_like(x)
        assert Tangent(phi).at(x) is None
        torch.testing.assert_close(Linearisation(phi, x).forward(p)[0], factor * p)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("side", [8, 300])  # few numbers, and many, which go another way
def test_inner_products_are_those_of_float64(side, memory):
    random = torch.Generator().manual_seed(side)
    a, b = (torch.randn(2, 8, side, side, generator=random) for _ in range(2))
    expected = (a.double() * b.double()).sum((1, 2, 3)) + 1.5 * (a[:, :1].double() * b[:, :1].double()).sum(
        (1, 2, 3)
    )
    a, b = a.to(memory_format=memory), b.to(memory_format=memory)
    found = dot((a, a[:, :1]), (b, 1.5 * b[:, :1]))
    assert found.dtype == torch.float64
    size = (a.double().square().sum((1, 2, 3)) * b.double().square().sum((1, 2, 3))).sqrt()
    assert bool(((found - expected).abs() <= 1e-7 * size).all())
