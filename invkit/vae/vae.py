"""The autoencoder of patches: HU in, a Gaussian over flat codes, HU out."""

__all__ = ["VAE", "HuVae", "Posterior", "VaeConfig"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from invkit.errors import ImageError
from invkit.vae.critic import Critic
from invkit.vae.decoder import Decoder
from invkit.vae.encoder import Encoder, Sizes
from invkit.vae.equaliser import Equaliser
from invkit.vae.losses import kl_divergence

HU_RANGE = (-1024.0, 2000.0)
Config = TypeVar("Config", bound="CodeConfig")


class VaeConfig(BaseModel):
    """Architecture and training of a VAE-WGAN. The defaults are for 20 to 25 minutes on one core.

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
        start_patches: training patches that the linear paths are fitted to before the first step.
        critic_stem: side of the pixel blocks that the critic sees as channels.
        critic_width: channels of the critic.
        hu_mean: HU that become 0 inside.
        hu_scale: HU that become 1 inside.
        steps: steps of the generator (E and D).
        batch: patches in a step.
        lr: highest learning rate of E and D; a short warm-up, then a cosine to 0.
        betas: of Adam, for E and D.
        warmup: steps of the warm-up.
        clip_norm: longest gradient.
        kl_weight: factor of the KL term; 1 is the evidence lower bound.
        band_weight: factor of the band-energy term.
        band_tolerance: difference of log band energies that is free.
        adversarial_from: part of the steps after which the critic joins; 1 trains without a critic.
        adversarial_weight: factor on top of the adaptive weight; 1 gives the critic's gradient the norm of
            the rest's.
        adversarial_limit: upper bound of the adaptive weight.
        critic_lr: learning rate of C, constant.
        critic_betas: of Adam, for C.
        penalty: lambda of the gradient penalty.
        penalty_every: steps between two evaluations of the penalty, which then counts as often.
        held_out: held-out patches for the figures that are stored with the model.
        pca_patches: training patches that the PCA rival is fitted to; 0 leaves the comparison out.
        bf16: train in bfloat16 where that is measured to be faster; the stored model always computes in float32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    patch: int = Field(default=128, gt=0)
    d: int = Field(default=256, gt=0)
    stem: int = Field(default=8, gt=0)
    width: int = Field(default=128, gt=0)
    inner: int = Field(default=64, gt=0)
    encoder_blocks: tuple[int, int] = (3, 2)
    decoder_blocks: tuple[int, int] = (4, 3)
    neck: int = Field(default=16, gt=0)
    pool: int = Field(default=4, gt=0)
    start_patches: int = Field(default=6144, gt=1)
    critic_stem: int = Field(default=8, gt=0)
    critic_width: int = Field(default=64, gt=0)
    hu_mean: float = -400.0
    hu_scale: float = Field(default=400.0, gt=0)
    steps: int = Field(default=7000, gt=0)
    batch: int = Field(default=32, gt=0)
    lr: float = Field(default=2e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = Field(default=200, ge=0)
    clip_norm: float | None = Field(default=1.0, gt=0)
    kl_weight: float = Field(default=1.0, ge=0)
    band_weight: float = Field(default=0.2, ge=0)
    band_tolerance: float = Field(default=0.2, ge=0)
    adversarial_from: float = Field(default=0.85, ge=0, le=1)
    adversarial_weight: float = Field(default=0.2, ge=0)
    adversarial_limit: float = Field(default=100.0, gt=0)
    critic_lr: float = Field(default=5e-4, gt=0)
    critic_betas: tuple[float, float] = (0.5, 0.9)
    penalty: float = Field(default=10.0, ge=0)
    penalty_every: int = Field(default=4, gt=0)
    held_out: int = Field(default=512, gt=1)
    pca_patches: int = Field(default=6144, ge=0)
    bf16: bool = True

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.patch % (2 * self.stem):
            raise ValueError(f"patch must be a multiple of 2 * stem = {2 * self.stem}, got {self.patch}")
        if self.patch % (4 * self.critic_stem):
            raise ValueError(
                f"patch must be a multiple of 4 * critic_stem = {4 * self.critic_stem}, got {self.patch}"
            )
        if self.patch % self.pool or (self.patch // self.pool) ** 2 < self.d:
            raise ValueError(
                f"patch must be a multiple of pool with at least d = {self.d} blocks, "
                f"got {self.patch} and {self.pool}"
            )
        if self.start_patches <= self.d:
            raise ValueError(f"start_patches must be more than d = {self.d}, got {self.start_patches}")
        if min(*self.encoder_blocks, *self.decoder_blocks) < 0:
            raise ValueError("the numbers of blocks must not be negative")
        return self

    @property
    def critic_begins(self) -> int:
        """The first step at which the critic takes part."""
        return round(self.adversarial_from * self.steps)


@dataclass(frozen=True)
class Posterior:
    """q(z_bar | x), a Gaussian with a diagonal covariance.

    Args:
        mean: `(B, d)`, or `(B, c, h, w)` where the code is a grid.
        log_var: logarithm of the variances, of the same shape.
    """

    mean: Tensor
    log_var: Tensor

    def sample(self, generator: torch.Generator) -> Tensor:
        """Return one code per image, of the mean's shape; the generator is on the device of the posterior."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device)
        return self.mean + (0.5 * self.log_var).exp() * noise

    def kl(self) -> Tensor:
        """Return the divergence from N(0, 1), shape `(B,)`, nats."""
        return kl_divergence(self.mean, self.log_var)


class CodeConfig(Protocol):
    """What the settings of all VAEs tell."""

    @property
    def patch(self) -> int:
        """Side of the training patches, pixels."""

    @property
    def d(self) -> int:
        """Numbers in the code of one training patch."""

    @property
    def steps(self) -> int:
        """Optimiser steps of the training."""

    @property
    def clip_norm(self) -> float | None:
        """Longest gradient."""

    @property
    def hu_mean(self) -> float:
        """HU that become 0 inside."""

    @property
    def hu_scale(self) -> float:
        """HU that become 1 inside."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Return all fields, as JSON values where mode is `"json"`."""


class HuVae(nn.Module, Generic[Config]):
    """What the VAEs of all representations share: a config, a length of the code, and the map between HU and network units."""

    reconstruct: Callable[..., Tensor]

    def __init__(self, config: Config):
        super().__init__()
        self.config = config

    @property
    def patch(self) -> int:
        """That of the config."""
        return self.config.patch

    @property
    def d(self) -> int:
        """That of the config."""
        return self.config.d

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.parameters()).device

    def scale(self, x_hu: Tensor) -> Tensor:
        """Map HU to network units, clipped to the range that the VAE knows."""
        return (x_hu.clamp(*HU_RANGE) - self.config.hu_mean) / self.config.hu_scale

    def unscale(self, x: Tensor) -> Tensor:
        """Map network units to HU."""
        return x * self.config.hu_scale + self.config.hu_mean

    def forward(self, *images: Tensor) -> Tensor:
        """Return what `reconstruct` does."""
        return self.reconstruct(*images)


class VAE(HuVae[VaeConfig]):
    """Encoder E and decoder D of patches in HU.

    Values outside [-1024, 2000] HU are clipped before they are encoded. The same class serves low-dose x and
    high-dose y: what it was trained on decides.
    """

    def __init__(self, config: VaeConfig):
        super().__init__(config)
        sizes = Sizes.of(config)
        self.encoder = Encoder(sizes, config.encoder_blocks)
        self.decoder = Decoder(sizes, config.decoder_blocks)
        self.equaliser = Equaliser()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def start(self, patches: Tensor) -> None:
        """Make the linear paths the best linear VAE of the patches, the rest small beside them.

        The evidence lower bound of a linear VAE with noise variance s^2 has its maximum at the principal
        components, code k with the posterior variance s^2 / lambda_k (Lucas et al. 2019, from Tipping and
        Bishop 1999). It is taken on block means and interpolated. Training then begins at about the error of
        PCA instead of reaching it last.

        Args:
            patches: `(n, 1, patch, patch)`, HU, with n > d.
        """
        encoder, decoder = self.encoder, self.decoder
        means = torch.cat([encoder.pool(self.scale(part)).flatten(1) for part in torch.split(patches, 256)])
        centre = means.mean(dim=0)
        _, singular, right = torch.linalg.svd(means - centre, full_matrices=False)
        right = right[: self.d]
        deviation = (singular[: self.d] / len(means) ** 0.5).clamp_min(1e-4 * singular[0] / len(means) ** 0.5)
        encoder.linear.weight.copy_(right / deviation[:, None])
        encoder.linear.bias.copy_(-encoder.linear.weight @ centre)
        decoder.linear.weight.copy_(right.T * deviation)
        decoder.linear.bias.copy_(centre)
        some = self.scale(patches[:512])
        rest = (some - decoder.smooth(encoder.linear(means[:512]))).square().mean()
        energy = deviation.square() * self.config.pool**2
        encoder.head.bias[self.d :] = (rest / energy).log().clamp(-8.0, -0.1)
        encoder.head.weight[: self.d] *= 0.1
        decoder.head.weight *= 0.1

    def encode(self, x_hu: Tensor) -> Posterior:
        """Return the posterior `(B, d)` of the codes of patches `(B, 1, patch, patch)` in HU.

        Raises:
            ImageError: another shape.
        """
        if x_hu.shape[1:] != (1, self.patch, self.patch):
            raise ImageError(
                f"this VAE takes patches of shape (B, 1, {self.patch}, {self.patch}), "
                f"got {tuple(x_hu.shape)}; cut larger images into tiles"
            )
        return Posterior(*self.encoder(self.scale(x_hu)))

    def decode(self, z_bar: Tensor) -> Tensor:
        """Return patches `(B, 1, patch, patch)` in HU of codes `(B, d)`.

        Raises:
            ImageError: codes of another length.
        """
        if z_bar.ndim != 2 or z_bar.shape[1] != self.d:
            raise ImageError(f"this VAE decodes codes of shape (B, {self.d}), got {tuple(z_bar.shape)}")
        return self.unscale(self.equaliser(self.decoder(z_bar)))

    def reconstruct(self, x_hu: Tensor) -> Tensor:
        """Return D(mean of E(x)), in HU."""
        return self.decode(self.encode(x_hu).mean)


def build_critic(config: VaeConfig) -> Critic:
    """Return a critic with the sizes of a config; it takes scaled patches."""
    return Critic(stem=config.critic_stem, width=config.critic_width).to(  # type: ignore[call-overload, no-any-return]
        memory_format=torch.channels_last
    )
