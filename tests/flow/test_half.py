"""Coupling networks in bfloat16: as exact as autocast, drawing and training, and never behind their weights."""

import copy

import pytest
import torch
from torch import nn

from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.flow.coupling import CouplingNet

WAYS = {
    "silu": {"activation": "silu"},
    "leaky_relu": {"activation": "leaky_relu"},
    "shallow": {"depth": 0},
    "deep": {"depth": 2},
    "four networks": {"separate": True},
}


def shaken(**changes):
    """Return a flow with bf16 networks whose weights are no start any more."""
    config = CinnConfig(d=8, blocks=2, hidden=32, context=4, bf16=True).model_copy(update=changes)
    cinn, source = CINN(config, (8,)), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in cinn.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=source))
    return cinn


def plain(cinn, *, bf16):
    """Return a copy whose networks are torch's layers called one by one, under autocast or in float32."""

    def forward(net, a, h):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return net.last(net.inner(net.code(a) + net.condition(h))).to(a.dtype)

    twin = copy.deepcopy(cinn)
    for module in twin.modules():
        if isinstance(module, CouplingNet):
            module.forward = forward.__get__(module)
    return twin


def numbers(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def drawn(cinn, images):
    with torch.no_grad():
        return cinn.sample(numbers(images, 8), numbers(1100 // images, images, 8, seed=2))


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("changes", [pytest.param(changes, id=name) for name, changes in WAYS.items()])
def test_draws_are_as_exact_as_autocasts(changes, images):
    cinn = shaken(**changes)
    exact = drawn(plain(cinn, bf16=False), images)
    ours, theirs = (
        (drawn(flow, images) - exact).square().mean().sqrt() for flow in (cinn, plain(cinn, bf16=True))
    )
    assert 0 < ours <= 1.3 * theirs
    assert ours < 0.01 * exact.square().mean().sqrt()


@pytest.mark.parametrize("changes", [pytest.param(changes, id=name) for name, changes in WAYS.items()])
def test_gradients_are_those_of_the_same_operations_one_by_one(changes):
    net = shaken(**changes).blocks[0].coupling.first[0]
    act = net.inner[0]

    def one_by_one(a, h):
        x = torch.cat([a, h], -1).bfloat16()
        weights = [torch.cat([net.code.weight, net.condition.weight], 1)]
        layers = [layer for layer in (*net.inner, net.last) if isinstance(layer, nn.Linear)]
        weights += [layer.weight for layer in layers]
        for index, (weight, layer) in enumerate(zip(weights, (net.code, *layers), strict=True)):
            x = nn.functional.linear(x if index == 0 else act(x), weight.bfloat16(), layer.bias.bfloat16())
        return x.float()

    found = []
    for way in (one_by_one, net):
        a, h = (numbers(64, 4, seed=seed).requires_grad_() for seed in (3, 4))
        net.zero_grad()
        way(a, h).square().sum().backward()
        found.append([a.grad, h.grad, *(parameter.grad for parameter in net.parameters())])
    for theirs, ours in zip(*found, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < 0.005 * theirs.norm()


def misses(cinn, seed):
    """Return the mean relative error of all gradients, ours and autocast's, against float32."""
    found = []
    for flow in (plain(cinn, bf16=False), cinn, plain(cinn, bf16=True)):
        codes, condition = (numbers(64, 8, seed=seed + k).requires_grad_() for k in (0, 100))
        flow.zero_grad()
        flow.nll(codes, condition).mean().backward()
        found.append([codes.grad, condition.grad, *(p.grad for p in flow.parameters() if p.grad is not None)])
    exact, *both = found
    assert len(exact) > 20
    return torch.tensor(
        [[float((a - b).norm() / b.norm()) for a, b in zip(grads, exact, strict=True)] for grads in both]
    ).mean(1)


@pytest.mark.parametrize("activation", ["silu", "leaky_relu"])
def test_gradients_of_the_flow_are_as_exact_as_autocasts(activation):
    cinn = shaken(activation=activation)
    ours, theirs = torch.stack([misses(cinn, seed) for seed in range(10)]).median(0).values
    assert 0.001 < ours < 1.3 * theirs


def test_weights_that_change_are_followed_in_the_same_memory():
    cinn = shaken()
    net = cinn.blocks[1].coupling.first[0]
    before = drawn(cinn, 1)
    place = net._half.weights[0].data_ptr()
    adam = torch.optim.Adam(cinn.parameters(), lr=1e-3, fused=True)
    for _ in range(3):
        adam.zero_grad(set_to_none=True)
        cinn.nll(numbers(64, 8), numbers(64, 8, seed=2)).mean().backward()
        adam.step()
    after = drawn(cinn, 1)
    assert (after - before).abs().max() > 0.01
    assert torch.equal(after, drawn(copy.deepcopy(cinn), 1))
    assert net._half.weights[0].data_ptr() == place
    with torch.no_grad():
        net.last.weight.add_(1.0)
    assert (drawn(cinn, 1) - after).abs().max() > 0.01


def test_other_parameters_are_followed_too():
    cinn, other = shaken(), shaken(activation="silu")
    drawn(cinn, 1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    cinn.load_state_dict(other.state_dict())
    assert torch.equal(drawn(cinn, 1), drawn(other, 1))
    cinn.blocks[0].coupling.first[0].code.weight = nn.Parameter(torch.zeros(32, 4))
    assert not torch.equal(drawn(cinn, 1), drawn(other, 1))
    other.blocks[0].coupling.first[0].code.weight = nn.Parameter(torch.zeros(32, 4))
    assert torch.equal(drawn(cinn, 1), drawn(other, 1))


@pytest.mark.parametrize(
    "place", ["code.weight", "condition.weight", "inner.1.bias", "last.weight", "last.bias"]
)
def test_any_parameter_may_be_another_one(place):
    cinn = shaken()
    before, net = drawn(cinn, 1), cinn.blocks[0].coupling.first[0]
    layer, _, name = place.rpartition(".")
    old = net.get_parameter(place)
    setattr(net.get_submodule(layer), name, nn.Parameter(old.detach() + 0.5))
    after = drawn(cinn, 1)
    assert not torch.equal(after, before)
    assert torch.equal(after, drawn(copy.deepcopy(cinn), 1))


def test_a_step_between_pass_and_gradient_is_an_error_as_it_is_for_torchs_layers():
    cinn = shaken()
    loss = cinn.nll(numbers(4, 8), numbers(4, 8, seed=2)).mean()
    with torch.no_grad():
        for parameter in cinn.parameters():
            parameter.mul_(0.5)
    cinn.nll(numbers(4, 8), numbers(4, 8, seed=2))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_what_is_rounded_is_no_part_of_the_network():
    cinn = shaken()
    drawn(cinn, 1)
    assert not any("half" in name for name in cinn.state_dict())
    twin = copy.deepcopy(cinn)
    assert twin.blocks[0].coupling.first[0]._half is None
    assert torch.equal(drawn(twin, 1), drawn(cinn, 1))
    assert cinn.double().nll(numbers(4, 8).double(), numbers(4, 8, seed=2).double()).dtype == torch.float64


def test_transforms_of_torch_func_go_through():
    cinn = shaken()
    codes, condition = numbers(1, 8), numbers(1, 8, seed=2)
    jacobian = torch.func.jacfwd(lambda z: cinn(z[None], cinn.embed(condition))[0][0])(codes[0])
    _, log_det = cinn(codes, cinn.embed(condition))
    assert abs(float((torch.linalg.slogdet(jacobian)[1] - log_det).detach())) < 0.1
