"""The sampling loop where a device works ahead of the host: nothing waits for it more often than it must."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from invkit.denoisers.loaded import wrap_module
from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.parts.preset_file import vae_preset
from invkit.sampling import draw as sampler
from invkit.sampling.base import LayerModel
from invkit.sampling.draw import draw
from invkit.sampling.layer import ScaledLayer
from invkit.sampling.tiles import Tiling
from invkit.split.split import Split
from invkit.vae.vae import VAE

SIDE = 32
NO_GPU = "needs a CUDA device"


class MeanRegressor:
    condition_stages = 0

    def __call__(self, z, size, **_):
        return z.mean(1, keepdim=True)


class Questions(TorchDispatchMode):
    """Counts how often the host asks for a number, for which it would have to wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def parts(device="cpu"):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 1, 3, padding=1))
        vae = VAE(vae_preset("tiny")).eval()
        cinn = CINN(CinnConfig(d=vae.d, blocks=2, hidden=16, context=4), (2 * vae.d,)).eval()
    return LayerModel(
        split=Split(wrap_module(network.to(device)), "0"),
        regressor=MeanRegressor(),
        vae=vae.to(device),
        cinn=cinn.to(device),
        meta={},
        sha256="",
        nll_rows=torch.zeros(1),
        patients=torch.zeros(1),
    )


def drawn(model, samples, device="cpu"):
    x = (torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2)) * 100).to(device)
    target = ScaledLayer.of(model.split, 0.7, 0.3, 0.7).at(x)
    return draw(model.draws(target), target, samples=samples, seed=3, image=1)


def questions(samples):
    model = parts()
    with Questions() as asked:
        drawn(model, samples)
    return asked.count


def test_the_host_asks_twice_for_each_chunk_however_many_draws_are_in_it():
    counts = {samples: questions(samples) for samples in (10, 25, 50, 75)}
    assert counts[10] == counts[25]
    assert counts[50] - counts[25] == counts[75] - counts[50] == 2


def test_smaller_parts_cost_one_question_each(monkeypatch):
    whole = questions(25)
    monkeypatch.setattr(sampler, "ON_CPU", 5 * SIDE * SIDE)
    assert questions(25) == whole + 4


class Copies(TorchDispatchMode):
    """Counts copies from the host to another device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.count += func is torch.ops.aten._to_copy.default and kwargs.get("device") is not None
        return func(*args, **kwargs)


def test_weights_of_tiles_are_copied_to_a_device_once():
    tiling = Tiling(48, 40, SIDE)
    patches = torch.empty(2, len(tiling), 1, SIDE, SIDE, device="meta")
    with Copies() as first:
        tiling.blend_draws(patches, patches[:1])
    with Copies() as later:
        tiling.blend_draws(patches, patches[:1])
        tiling.blend(patches)
    assert first.count == 3
    assert later.count == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
def test_no_draw_waits_for_a_gpu():
    model = parts("cuda")
    x = torch.randn(1, 1, SIDE, 2 * SIDE, generator=torch.Generator().manual_seed(2)).cuda() * 100
    draws = model.prepare(model.split.phi(x), (SIDE, 2 * SIDE))
    before = draws(3, 1, range(25))
    torch.cuda.set_sync_debug_mode("error")
    try:
        again = draws(3, 1, range(25))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(again, before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
def test_draws_on_a_gpu_are_those_of_the_cpu():
    here, there = drawn(parts(), 30), drawn(parts("cuda"), 30, "cuda")
    torch.testing.assert_close(there.samples.cpu(), here.samples, rtol=1e-3, atol=0.5)
    for name in ("mean", "std", "f_mean", "f_std", "fiber_error", "f_error"):
        torch.testing.assert_close(getattr(there, name).cpu(), getattr(here, name), rtol=1e-2, atol=0.5)
