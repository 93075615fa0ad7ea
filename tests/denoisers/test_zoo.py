"""Architectures as people have them, with random weights: f, Phi and Psi are the network run by hand."""

import warnings

import pytest
import torch
from other_libraries import library
from torch import nn

import invkit
from invkit.denoisers.spec import Affine, Call
from invkit.split.split import Split

UNIT = Affine(mean=-1024.0, std=4095.0)


class RedCnn(nn.Module):
    """Chen et al. 2017: convolutions without padding, deconvolutions, three shortcuts."""

    def __init__(self, width=8):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width if i else 1, width, 5) for i in range(5))
        self.deconvs = nn.ModuleList(nn.ConvTranspose2d(width, 1 if i == 4 else width, 5) for i in range(5))

    def forward(self, x):
        kept = [x]
        h = x
        for i, conv in enumerate(self.convs):
            h = torch.relu(conv(h))
            if i in (1, 3):
                kept.append(h)
        for i, deconv in enumerate(self.deconvs):
            h = deconv(h)
            if i in (0, 2, 4):
                h = h + kept.pop()
            h = torch.relu(h)
        return h


class Transformer(nn.Module):
    """Patches of 4 x 4 pixels as tokens, two encoder layers."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(1, 16, 4, 4)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.ConvTranspose2d(16, 1, 4, 4)

    def forward(self, x):
        z = self.embed(x)
        tokens = self.encoder(z.flatten(2).transpose(1, 2))
        return self.out(tokens.transpose(1, 2).reshape(z.shape))


class Diffusion(nn.Module):
    """Predicts the noise of an image at a time."""

    def __init__(self):
        super().__init__()
        self.time, self.a = nn.Linear(1, 8), nn.Conv2d(1, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x, t):
        h = self.a(x) + self.time(t[:, None].float() / 1000)[:, :, None, None]
        return self.b(nn.functional.silu(h))


def spandrel(name, **options):
    library("spandrel")
    from importlib import import_module

    return getattr(import_module(f"spandrel.architectures.{name}"), name)(**options)


def monai(name, **options):
    return getattr(library("monai.networks.nets"), name)(**options)


def diffusers():
    return library("diffusers").UNet2DModel(
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )


def plain(network, x):
    return network(x)


def third(network, x):
    return network(x.repeat(1, 3, 1, 1)).mean(1, keepdim=True)


SWIN = {"depths": [1, 1], "num_heads": [2, 2], "window_size": 8, "upscale": 1, "upsampler": ""}
FLAT = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1}

# What makes it, how it is called, the same by hand, and one of its modules that runs once.
ZOO = {
    "RED-CNN": (RedCnn, {}, plain, "convs.2"),
    "transformer": (Transformer, {}, plain, "embed"),
    "diffusion": (
        Diffusion,
        {"call": Call(tensors={"t": 25}, noise=True)},
        lambda n, x: x - n(x, torch.full((len(x),), 25)),
        "a",
    ),
    "DnCNN": (lambda: spandrel("DnCNN", in_nc=1, out_nc=1, nc=8, nb=5), {}, plain, "model.2"),
    "DRUNet": (
        lambda: spandrel("DRUNet", in_nc=2, out_nc=1, nc=[8, 16, 32, 64], nb=2),
        {"call": Call(maps=(0.1,))},
        lambda n, x: n(torch.cat([x, torch.full_like(x, 0.1)], 1)),
        "m_body",
    ),
    "SwinIR": (
        lambda: spandrel("SwinIR", img_size=32, in_chans=1, embed_dim=12, resi_connection="1conv", **SWIN),
        {},
        plain,
        "conv_first",
    ),
    "SCUNet": (lambda: spandrel("SCUNet", in_nc=1, config=[1] * 7, dim=64), {}, plain, "m_body"),
    "NAFNet": (
        lambda: spandrel(
            "NAFNet", img_channel=3, width=8, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1]
        ),
        {"channels": 3},
        third,
        "intro",
    ),
    "MONAI UNet": (
        lambda: monai("UNet", **FLAT, channels=(8, 16, 32), strides=(2, 2)),
        {},
        plain,
        "model.0",
    ),
    "MONAI BasicUNet": (
        lambda: monai("BasicUNet", **FLAT, features=(8, 8, 16, 16, 32, 8)),
        {},
        plain,
        "conv_0",
    ),
    "MONAI AttentionUnet": (
        lambda: monai("AttentionUnet", **FLAT, channels=(8, 16, 32), strides=(2, 2)),
        {},
        plain,
        "model.0",
    ),
    "diffusers UNet2DModel": (
        diffusers,
        {"call": Call(arguments={"timestep": 10}, output="sample")},
        lambda n, x: n(x, 10).sample,
        "conv_in",
    ),
}


@pytest.fixture(params=ZOO)
def zoo(request):
    make, options, by_hand, module = ZOO[request.param]
    torch.manual_seed(11)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = make().eval()
    return network, options, by_hand, module


@pytest.mark.filterwarnings("ignore")
def test_f_phi_and_psi_are_the_network_by_hand(zoo):
    network, options, by_hand, module = zoo
    f = invkit.load(network, preprocessing=UNIT, **options)
    x = 40 + 100 * torch.randn(1, 1, 43, 50, generator=torch.Generator().manual_seed(3))
    given = f.prepare(x)
    assert all(side % f.size_multiple == 0 for side in given.shape[-2:])
    seen = []
    hook = network.get_submodule(module).register_forward_hook(lambda _module, _given, out: seen.append(out))
    with torch.no_grad():
        expected = UNIT.denormalise(by_hand(network, given))[..., :43, :50]
    hook.remove()
    assert torch.allclose(f(x), expected, atol=2e-2)
    split = Split(f, f"module:{module}")
    z = split.phi(x)
    assert torch.equal(z, seen[0])
    report = split.check(x)
    assert report.exact
    assert torch.equal(split.psi(z, x), f(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zoo", ["RED-CNN", "DnCNN", "MONAI UNet", "NAFNet", "diffusion"], indirect=True)
def test_a_layer_and_the_output_are_analysed(zoo):
    network, options, _, module = zoo
    f = invkit.load(network, preprocessing=UNIT, **options)
    result = invkit.analyze(
        f, layer=[f"module:{module}", "output"], sampler="training-free", samples=8, refine=4
    )
    assert [layer.layer for layer in result.layers] == [f"module:{module}", "output"]
    assert all(layer.conclusion is not None for layer in result.layers)
    colour = any("takes colour images" in warning for warning in result.all_warnings)
    assert colour == (options.get("channels") == 3)
