import json

import pytest
import torch
from torch import nn

from invkit.errors import ArtifactError
from invkit.training.optimiser import adam
from invkit.training.state import (
    copy_state,
    module_tensors,
    optimizer_tensors,
    restore_modules,
    restore_optimizers,
)

OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, 0.01),
    "adam fused": lambda p: adam(p, 0.01),
    "adam amsgrad": lambda p: torch.optim.Adam(p, 0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01),
    "sgd": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, centered=True),
    "radam": lambda p: torch.optim.RAdam(p, 0.01),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.01),
}


def network(seed, dtype=torch.float32):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))
    return net.to(memory_format=torch.channels_last, dtype=dtype)


def steps(net, optimizer, n, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        optimizer.zero_grad()
        x = torch.randn(3, 2, 6, 6, generator=generator).to(net[0].weight.dtype)
        net(x).square().sum().backward()
        optimizer.step()


def through_a_file(tensors, plain):
    """Return what storage makes of a state: contiguous tensors, JSON values."""
    return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, json.loads(
        json.dumps(plain)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_goes_on_bit_for_bit_after_being_restored(name, dtype):
    net, other = network(0, dtype), network(1, dtype)
    optimizer, restored = OPTIMIZERS[name](net.parameters()), OPTIMIZERS[name](other.parameters())
    steps(net, optimizer, 3, seed=5)
    tensors, plain = through_a_file(*optimizer_tensors({"main": optimizer}))
    weights, _ = through_a_file(module_tensors({"net": net}), {})
    restore_modules({"net": other}, weights)
    restore_optimizers({"main": restored}, tensors, plain)
    for mine, theirs in zip(optimizer.state.values(), restored.state.values(), strict=True):
        for key, value in mine.items():
            if isinstance(value, torch.Tensor):
                assert value.stride() == theirs[key].stride(), key
                assert (value.dtype, value.device) == (theirs[key].dtype, theirs[key].device), key
                assert torch.equal(value, theirs[key]), key
            else:
                assert value == theirs[key]
    steps(net, optimizer, 3, seed=6)
    steps(other, restored, 3, seed=6)
    for mine, theirs in zip(net.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_group_settings_come_back_with_their_types():
    net = network(0)
    optimizer = torch.optim.Adam(
        [{"params": net[0].parameters()}, {"params": net[2].parameters(), "lr": 0.5}], lr=0.1
    )
    optimizer.param_groups[0]["betas"] = (0.25, 0.75)
    tensors, plain = through_a_file(*optimizer_tensors({"main": optimizer}))
    fresh = torch.optim.Adam([{"params": net[0].parameters()}, {"params": net[2].parameters()}], lr=0.3)
    restore_optimizers({"main": fresh}, tensors, plain)
    assert [group["lr"] for group in fresh.param_groups] == [0.1, 0.5]
    assert fresh.param_groups[0]["betas"] == (0.25, 0.75)


def test_copies_do_not_follow_the_module():
    net = network(0)
    copy = copy_state(module_tensors({"net": net}, "best"))
    with torch.no_grad():
        net[0].weight.add_(1)
    assert not torch.equal(copy["best/net/0.weight"], net[0].weight)
    restore_modules({"net": net}, copy, "best")
    assert torch.equal(copy["best/net/0.weight"], net[0].weight)


def test_another_model_is_refused():
    tensors = module_tensors({"net": network(0)})
    with pytest.raises(ArtifactError, match="another model"):
        restore_modules({"net": nn.Conv2d(2, 4, 3)}, tensors)
    with pytest.raises(ArtifactError, match="another model"):
        restore_modules({"other": network(0)}, tensors)


def test_another_optimiser_is_refused():
    net = network(0)
    tensors, plain = optimizer_tensors({"main": adam(net.parameters(), 0.1)})
    for optimizers in ({"critic": adam(net.parameters(), 0.1)}, {"main": adam(net[0].parameters(), 0.1)}):
        with pytest.raises(ArtifactError, match="another training"):
            restore_optimizers(optimizers, tensors, plain)
