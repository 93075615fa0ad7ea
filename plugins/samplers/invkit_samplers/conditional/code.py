"""The autoencoder of what a denoiser's output f(x) does not say of an image: E(x, f(x)) and D(code, f(x))."""

__all__ = ["ConditionalConfig", "ConditionalVae"]

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from invkit import ImageError
from invkit.samplers import (
    HU_RANGE,
    Decoder,
    Encoder,
    HuVae,
    Posterior,
    SamplerSettings,
    Sizes,
    fit_pca,
    linear_vae,
)

LEAST = 0.01  # HU, of the unit of residuals: some networks change nothing


class ConditionalConfig(SamplerSettings):
    """Architecture and training of a VAE that is given f(x). The defaults are for about 10 minutes on one core.

    Args:
        patch: side of the square patches, pixels.
        d: length of the code.
        stem: side of the pixel blocks that become channels.
        width: channels of encoder and decoder.
        inner: channels of the 3x3 convolutions inside the residual blocks.
        encoder_blocks: residual blocks of the encoder on the grids of `patch / stem` and half of it.
        decoder_blocks: those of the decoder, in the same order.
        neck: channels on the coarse grid next to the code.
        pool: side of the pixel blocks whose means the linear paths see.
        patches: training patches; they are drawn, and f computed for them, once.
        others: of them, images f(x) that are kept for the draws of `const`, which is not told its own.
        hu_mean: HU of f(x) that become 0 inside.
        hu_scale: HU of f(x) that become 1 inside; residuals have a unit of their own, measured on the patches.
        steps: optimiser steps.
        batch: patches in a step.
        lr: highest rate of Adam; a short warm-up, then a cosine to 0.
        betas: of Adam.
        warmup: steps of the warm-up.
        clip_norm: longest gradient.
        kl_weight: factor of the KL term; 1 is the evidence lower bound.
        held_out: held-out patches for the figures that are stored with the model.
        bf16: train in bfloat16 where that is measured to be faster; the stored model always computes in float32.
        rows: patches whose codes a layer's flow is trained on, in the place of those of the layer's settings; no part of what
            decides the VAE.
    """

    patch: int = Field(default=128, gt=0)
    d: int = Field(default=256, gt=1)
    stem: int = Field(default=8, gt=0)
    width: int = Field(default=128, gt=0)
    inner: int = Field(default=64, gt=0)
    encoder_blocks: tuple[int, int] = (3, 2)
    decoder_blocks: tuple[int, int] = (4, 3)
    neck: int = Field(default=16, gt=0)
    pool: int = Field(default=2, gt=0)
    patches: int = Field(default=6144, gt=1)
    others: int = Field(default=64, gt=0)
    hu_mean: float = -400.0
    hu_scale: float = Field(default=400.0, gt=0)
    steps: int = Field(default=2200, gt=0)
    batch: int = Field(default=32, gt=0)
    lr: float = Field(default=2e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = Field(default=100, ge=0)
    clip_norm: float | None = Field(default=1.0, gt=0)
    kl_weight: float = Field(default=1.0, ge=0)
    held_out: int = Field(default=512, gt=1)
    bf16: bool = True
    rows: int = Field(default=6000, ge=2)

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.patch % (2 * self.stem):
            raise ValueError(f"patch must be a multiple of 2 * stem = {2 * self.stem}, got {self.patch}")
        if self.patch % self.pool or (self.patch // self.pool) ** 2 <= self.d:
            raise ValueError(
                f"patch must be a multiple of pool with more than d = {self.d} blocks, "
                f"got {self.patch} and {self.pool}"
            )
        if self.patches <= self.d:
            raise ValueError(f"patches must be more than d = {self.d}, got {self.patches}")
        if min(*self.encoder_blocks, *self.decoder_blocks) < 0:
            raise ValueError("the numbers of blocks must not be negative")
        return self

    @classmethod
    def tiny(cls) -> Self:
        """Return sizes for trying out, seconds."""
        return cls(
            patch=32,
            d=16,
            stem=4,
            width=24,
            inner=12,
            encoder_blocks=(1, 1),
            decoder_blocks=(1, 1),
            neck=8,
            patches=64,
            others=8,
            steps=20,
            batch=8,
            warmup=2,
            held_out=64,
            rows=128,
        )


class ConditionalVae(HuVae[ConditionalConfig]):
    """Encoder E and decoder D of patches in HU, both given f(x): `x_bar = f(x) + D(E(x, f(x)), f(x))`.

    f(x) stands beside the residual x - f(x) at the first layer of E, and beside the smooth image at the last grid of D. The
    code need hold only what f(x) does not say. The conditional variant of Eulig et al. 2025 (Med Phys 52:188) sees f(x) at
    each scale; it has a critic, and this one has not, nor an equaliser: D is the least-squares decoder, so what it leaves out
    is uncorrelated with what it shows, and draws that are completed by noise with the spectrum of x - x_bar have the power of
    x. Texture that a critic puts into D's images would be counted twice.

    What is given is f(x) of the low-dose x whether x or its high-dose partner y is coded. Values outside [-1024, 2000] HU are
    clipped before the networks see them.
    """

    unit: Tensor

    def __init__(self, config: ConditionalConfig):
        super().__init__(config)
        sizes = Sizes.of(config)
        self.encoder = Encoder(sizes, config.encoder_blocks, inputs=2)
        self.decoder = Decoder(sizes, config.decoder_blocks, given=1)
        self.register_buffer("unit", torch.tensor(100.0))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def start(self, x: Tensor, f_x: Tensor, generator: torch.Generator) -> None:
        """Make the linear paths the best linear VAE of the residuals x - f(x); what is added to them is zero at first.

        It is that of `linear_vae`, taken on block means and interpolated: exact where `pool` is 1.

        Args:
            x: training patches, `(n, 1, patch, patch)`, HU, with n > d; of any floating type.
            f_x: what is given with each.
            generator: of the search for principal components.
        """
        encoder, decoder, config = self.encoder, self.decoder, self.config
        parts = list(zip(torch.split(x, 256), torch.split(f_x, 256), strict=True))
        power = [(_clipped(a) - _clipped(b)).square().mean((1, 2, 3)) for a, b in parts]
        # As it will be stored.
        self.unit.copy_(torch.cat(power).mean().sqrt().clamp_min(LEAST).half())
        means = torch.cat([encoder.pool(self.residual(a, b)) for a, b in parts])
        pca = fit_pca(means, config.d, generator=generator)
        some = self.residual(x[:512], f_x[:512])
        pixels = config.patch**2
        self._set_linear(pca.mean, pca.components, torch.ones(config.d), torch.ones(config.d))
        rest = (some - decoder.smooth(encoder.linear(means[:512].flatten(1)))).square().mean()
        noise = rest * pixels / (pixels - config.d)
        to_code, from_code, log_var = linear_vae(pca.variances * config.pool**2, noise)
        self._set_linear(pca.mean, pca.components, to_code * config.pool, from_code / config.pool)
        for head in (encoder.head, decoder.head):
            for parameter in head.parameters():
                nn.init.zeros_(parameter)
        encoder.head.bias[config.d :] = log_var

    def _set_linear(self, centre: Tensor, components: Tensor, to_code: Tensor, from_code: Tensor) -> None:
        encoder, decoder = self.encoder.linear, self.decoder.linear
        encoder.weight.copy_(components * to_code[:, None].to(components))
        encoder.bias.copy_(-encoder.weight @ centre.flatten())
        decoder.weight.copy_(components.T * from_code.to(components))
        decoder.bias.copy_(centre.flatten())

    def residual(self, x: Tensor, f_x: Tensor) -> Tensor:
        """Return x - f(x) in its own unit, float32."""
        return (_clipped(x) - _clipped(f_x)) / self.unit

    def seen(self, f_x: Tensor) -> Tensor:
        """Return f(x) in network units, float32."""
        return self.scale(f_x.float())

    def encode(self, x: Tensor, f_x: Tensor) -> Posterior:
        """Return the posterior `(B, d)` of the codes of patches given f(x), both `(B, 1, patch, patch)` in HU.

        Raises:
            ImageError: another shape.
        """
        for image in (x, f_x):
            if image.shape != (len(x), 1, self.patch, self.patch):
                raise ImageError(
                    f"this VAE takes patches of shape (B, 1, {self.patch}, {self.patch}) and f(x) of the same, "
                    f"got {tuple(x.shape)} and {tuple(f_x.shape)}; cut larger images into tiles"
                )
        return Posterior(*self.encoder(torch.cat([self.residual(x, f_x), self.seen(f_x)], dim=1)))

    def decode(self, z_bar: Tensor, f_x: Tensor) -> Tensor:
        """Return patches `(B, 1, patch, patch)` in HU of codes `(B, d)` given f(x), of the patches' shape.

        Raises:
            ImageError: codes of another length, or as many images as there are not codes.
        """
        if z_bar.shape != (len(f_x), self.d):
            raise ImageError(
                f"this VAE decodes codes of shape (B, {self.d}) with an f(x) for each, "
                f"got {tuple(z_bar.shape)} and {tuple(f_x.shape)}"
            )
        residual: Tensor = self.decoder(z_bar, self.seen(f_x))
        return f_x + self.unit * residual

    def reconstruct(self, x: Tensor, f_x: Tensor) -> Tensor:
        """Return D(mean of E(x, f(x)), f(x)), in HU."""
        return self.decode(self.encode(x, f_x).mean, f_x)


def _clipped(image: Tensor) -> Tensor:
    return image.float().clamp(*HU_RANGE)
