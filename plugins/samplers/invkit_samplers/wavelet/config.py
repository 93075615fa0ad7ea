"""Settings of the convolutional flow on a wavelet basis, and of its training."""

__all__ = ["WaveletConfig"]

from typing import Self

from pydantic import Field

from invkit.samplers import SamplerSettings


class WaveletConfig(SamplerSettings):
    """What decides the flow t(r | z) on a grid, and how it is trained. The defaults are for one CPU core.

    Args:
        channels: of the grid; 1 for images.
        levels: of the wavelet transform.
        squeeze: fold blocks of 2 x 2 coefficients into channels, so that networks work on grids a fourth of the image's side
            instead of half of it.
        couplings: double couplings on each level.
        hidden: channels inside a coupling's network.
        context: channels of the embedding of the condition.
        scale_bound: soft bound of a coupling's log-scale.
        shift_bound: soft bound of a coupling's shift, in standard deviations.
        mean_bound: soft bound of what the condition shifts a coefficient by, in standard deviations.
        spread_bound: soft bound of the log-scale that the condition gives a coefficient.
        dequantisation: standard deviation of the Gaussian noise that is added before the likelihood, in the unit of the grid
            (HU for images): it gives the likelihood a floor. 0 where r is itself a draw from a density.
        bf16: train the networks in bfloat16 where that is measured to be faster; the maps themselves, sampling and all figures are
            float32.
        patch: side of the training patches, pixels.
        batch: patches in a step.
        start: patches that the whitening is computed from before the first step.
        steps: optimiser steps.
        lr: highest rate of Adam; rises over `warmup` steps, then decays to nothing by a cosine.
        warmup: see `lr`.
        betas: of Adam.
        clip_norm: longest gradient.
        held_out: patches that decide when training stops, and as many others for the figures.
        evaluate_every: steps between two looks at the held-out patches.
        patience: looks without gain after which training ends.
        seed: of the start of all parameters.
    """

    channels: int = Field(1, ge=1)
    levels: int = Field(4, ge=1)
    squeeze: bool = True
    couplings: int = Field(4, ge=0)
    hidden: int = Field(64, ge=1)
    context: int = Field(64, ge=1)
    scale_bound: float = Field(0.8, gt=0)
    shift_bound: float = Field(4.0, gt=0)
    mean_bound: float = Field(8.0, gt=0)
    spread_bound: float = Field(3.0, gt=0)
    dequantisation: float = Field(1.0, ge=0)
    bf16: bool = True
    patch: int = Field(128, ge=4)
    batch: int = Field(4, ge=1)
    start: int = Field(64, ge=2)
    steps: int = Field(600, ge=1)
    lr: float = Field(1e-3, gt=0)
    warmup: int = Field(30, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = Field(2.0, gt=0)
    held_out: int = Field(64, ge=2)
    evaluate_every: int = Field(150, ge=1)
    patience: int | None = Field(4, ge=1)
    seed: int = 0

    @property
    def unit(self) -> int:
        """Side of the pixel block that is one position of the finest grid the networks work on."""
        return 4 if self.squeeze else 2

    @property
    def multiple(self) -> int:
        """Both sides of a grid must be multiples of this."""
        return (1 << self.levels) * (2 if self.squeeze else 1)

    @classmethod
    def of_codes(cls) -> Self:
        """Return the defaults for spatial codes, whose grids are small and have several channels."""
        return cls(
            channels=8,
            levels=2,
            squeeze=False,
            hidden=96,
            context=96,
            dequantisation=0.0,
            batch=32,
            start=256,
            steps=1000,
            held_out=256,
        )

    @classmethod
    def tiny(cls) -> Self:
        """Return sizes for trying out, seconds."""
        return cls(
            levels=2,
            couplings=1,
            hidden=8,
            context=8,
            patch=32,
            batch=4,
            start=16,
            steps=20,
            warmup=2,
            held_out=16,
            evaluate_every=10,
        )
