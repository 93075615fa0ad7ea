"""An autoencoder whose code is a grid: HU in, a Gaussian over grids of numbers, HU out, for images of any size."""

__all__ = ["SpatialConfig", "SpatialSettings", "SpatialVae"]

from typing import Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from invkit import ImageError
from invkit.samplers import (
    HuVae,
    Posterior,
    ResidualBlock,
    SamplerSettings,
    in_float64,
    linear_vae,
    mixed_precision,
)
from invkit_samplers.wavelet.config import WaveletConfig

SLOPE = 0.2  # of LeakyReLU


class SpatialConfig(BaseModel):
    """Architecture and training of a VAE with a spatial code. The defaults are for about 10 minutes on one core.

    Args:
        patch: side of the training patches, pixels; a multiple of `stem`.
        stem: side of the pixel blocks that are one position of the code.
        channels: numbers of the code at each position.
        width: channels of encoder and decoder.
        inner: channels of the 3x3 convolutions inside the residual blocks.
        encoder_blocks: residual blocks of the encoder.
        decoder_blocks: those of the decoder.
        start_patches: training patches that the linear paths are fitted to before the first step.
        hu_mean: HU that become 0 inside.
        hu_scale: HU that become 1 inside.
        steps: optimiser steps.
        batch: patches in a step.
        lr: highest rate of Adam; a short warm-up, then a cosine to 0.
        betas: of Adam.
        warmup: steps of the warm-up.
        clip_norm: longest gradient.
        kl_weight: factor of the KL term; 1 is the evidence lower bound.
        held_out: held-out patches for the figures that are stored with the model.
        bf16: train the convolutional part in bfloat16 where that is measured to be faster, the linear paths never; the stored
            model always computes in float32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    patch: int = Field(default=128, gt=0)
    stem: int = Field(default=8, gt=1)
    channels: int = Field(default=8, gt=0)
    width: int = Field(default=128, gt=0)
    inner: int = Field(default=64, gt=0)
    encoder_blocks: int = Field(default=3, ge=0)
    decoder_blocks: int = Field(default=5, ge=0)
    start_patches: int = Field(default=512, gt=1)
    hu_mean: float = -400.0
    hu_scale: float = Field(default=400.0, gt=0)
    steps: int = Field(default=4000, gt=0)
    batch: int = Field(default=32, gt=0)
    lr: float = Field(default=2e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = Field(default=100, ge=0)
    clip_norm: float | None = Field(default=1.0, gt=0)
    kl_weight: float = Field(default=1.0, ge=0)
    held_out: int = Field(default=512, gt=1)
    bf16: bool = True

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.patch % self.stem:
            raise ValueError(f"patch must be a multiple of stem = {self.stem}, got {self.patch}")
        if self.channels >= self.stem**2:
            raise ValueError(
                f"channels must be less than the {self.stem**2} pixels of a block, got {self.channels}"
            )
        return self

    @classmethod
    def tiny(cls) -> "SpatialConfig":
        """Return sizes for trying out, seconds."""
        return cls(
            patch=32,
            stem=4,
            channels=3,
            width=16,
            inner=8,
            encoder_blocks=1,
            decoder_blocks=1,
            start_patches=64,
            steps=20,
            batch=8,
            warmup=2,
            held_out=64,
        )

    @property
    def d(self) -> int:
        """Numbers in the code of one training patch."""
        return self.channels * (self.patch // self.stem) ** 2


class SpatialSettings(SamplerSettings):
    """Settings of the sampler `spatial`.

    Args:
        vae: with the spatial code.
        flow: of its codes; as many channels as these have.
        rows: patches whose codes that flow is trained on.
    """

    vae: SpatialConfig = SpatialConfig()
    flow: WaveletConfig = WaveletConfig.of_codes()
    rows: int = Field(3_072, ge=2)

    @classmethod
    def tiny(cls) -> Self:
        """Return sizes for trying out, seconds."""
        flow = {"levels": 1, "squeeze": False, "dequantisation": 0.0, "held_out": 32}
        return cls(vae=SpatialConfig.tiny(), flow=WaveletConfig.tiny().model_copy(update=flow), rows=64)


class SpatialVae(HuVae[SpatialConfig]):
    """E and D as convolutions on a grid of one position for each block of `stem` x `stem` pixels.

    Both are the sum of a linear map of single blocks and of a residual network on the grid, whose last layer starts at zero.
    Nothing but the padding knows how large the image is, so what was trained on patches applies to whole slices, without
    tiles. Values outside [-1024, 2000] HU are clipped before they are encoded.

    Unlike the VAE of flat codes it has neither a critic nor an equaliser. D is the least-squares decoder: what it leaves out is
    then uncorrelated with what it shows, so draws that are completed by noise with the spectrum of x - D(E(x)) have the power of
    x. Energy that a critic or a filter adds would be counted twice.
    """

    def __init__(self, config: SpatialConfig):
        super().__init__(config)
        pixels, width = config.stem**2, config.width
        self.of_blocks = nn.Conv2d(pixels, config.channels, 1)
        self.to_blocks = nn.Conv2d(config.channels, pixels, 1)
        self.encoder = _network(pixels, width, 2 * config.channels, config.inner, config.encoder_blocks)
        self.decoder = _network(config.channels, width, pixels, config.inner, config.decoder_blocks)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def start(self, patches: Tensor) -> None:
        """Make the linear paths the best linear VAE of blocks of pixels; what is added to them is zero at first.

        It is that of `linear_vae`, so training begins at the best linear code of equal length.

        Args:
            patches: `(n, 1, H, W)`, HU, sides multiples of `stem`.
        """
        c = self.config.channels
        grid = torch.cat([self._folded(part) for part in torch.split(patches, 64)])
        rows = in_float64(grid).movedim(1, -1).flatten(0, -2)
        mean = rows.mean(0)
        values, vectors = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
        values, vectors = values.flip(0), vectors.flip(1)
        to_code, from_code, log_var = linear_vae(values[:c], values[c:].mean())
        weight = vectors[:, :c].T * to_code[:, None]
        self.of_blocks.weight.copy_(weight[:, :, None, None])
        torch.as_tensor(self.of_blocks.bias).copy_(-weight @ mean)
        self.to_blocks.weight.copy_((vectors[:, :c] * from_code)[:, :, None, None])
        torch.as_tensor(self.to_blocks.bias).copy_(mean)
        for network in (self.encoder, self.decoder):
            for parameter in network[-1].parameters():
                nn.init.zeros_(parameter)
        torch.as_tensor(self.encoder[-1].bias)[c:] = log_var

    def encode(self, x_hu: Tensor) -> Posterior:
        """Return the posterior of codes, `(B, c, H / stem, W / stem)`, of images `(B, 1, H, W)` in HU.

        Raises:
            ImageError: another shape, or sides that are no multiples of `stem`.
        """
        stem = self.config.stem
        if x_hu.ndim != 4 or x_hu.shape[1] != 1 or any(side % stem for side in x_hu.shape[-2:]):
            raise ImageError(
                f"this VAE takes images of shape (B, 1, H, W) with sides that are multiples of {stem}, "
                f"got {tuple(x_hu.shape)}; pad them"
            )
        folded = self._folded(x_hu)
        with mixed_precision(self.device, self.training):
            correction = self.encoder(folded)
        mean, log_var = correction.to(folded).chunk(2, dim=1)
        return Posterior(self.of_blocks(folded) + mean, log_var.clamp(-16.0, 4.0))

    def decode(self, z_bar: Tensor) -> Tensor:
        """Return images `(B, 1, stem * h, stem * w)` in HU of codes `(B, c, h, w)`.

        Raises:
            ImageError: codes of another number of channels.
        """
        if z_bar.ndim != 4 or z_bar.shape[1] != self.config.channels:
            raise ImageError(
                f"this VAE decodes codes of shape (B, {self.config.channels}, h, w), got {tuple(z_bar.shape)}"
            )
        z_bar = z_bar.contiguous(memory_format=torch.channels_last)
        with mixed_precision(self.device, self.training):
            correction = self.decoder(z_bar)
        folded = self.to_blocks(z_bar) + correction.to(z_bar)
        image = functional.pixel_shuffle(folded, self.config.stem).contiguous()
        return self.unscale(image)

    def pad(self, images: Tensor, multiple: int = 1) -> Tensor:
        """Return images `(B, 1, H, W)` continued at the right and bottom to multiples of `multiple` positions of the code.

        The last pixels are repeated.
        """
        down, right = (-side % (multiple * self.config.stem) for side in images.shape[-2:])
        return functional.pad(images, (0, right, 0, down), mode="replicate") if down or right else images

    def reconstruct(self, x_hu: Tensor) -> Tensor:
        """Return D(mean of E(x)) of images `(B, 1, H, W)` of any size, HU."""
        whole = self.decode(self.encode(self.pad(x_hu)).mean)
        return whole[..., : x_hu.shape[-2], : x_hu.shape[-1]]

    def _folded(self, x_hu: Tensor) -> Tensor:
        """Return scaled images with blocks of pixels as channels, `(B, stem ** 2, H / stem, W / stem)`."""
        folded = functional.pixel_unshuffle(self.scale(x_hu), self.config.stem)
        return folded.contiguous(memory_format=torch.channels_last)


def _network(inputs: int, width: int, outputs: int, inner: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1),
        *(ResidualBlock(width, inner) for _ in range(blocks)),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(width, outputs, 3, padding=1),
    )
