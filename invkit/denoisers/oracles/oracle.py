"""Built-in denoisers whose invariances are known in closed form: what the method finds can be held against them."""

from __future__ import annotations

__all__ = ["BAND", "CUTOFF", "LEVELS", "ORACLES", "REGION", "STEP", "TAU", "TAU_DISC"]

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from invkit.denoisers.spec import Affine, Denoiser, Layer

if TYPE_CHECKING:
    from torch import nn

CUTOFF = 0.35  # cycles per pixel
LEVELS = 3  # of the Haar transform
TAU = 40.0  # HU, of wavelet coefficients
STEP = 20.0  # HU
BAND = (0.2, 0.3)  # cycles per pixel
REGION = (0.25, 0.625, 0.375, 0.75)  # top, bottom, left, right; parts of the image
TAU_DISC = 30.0  # HU of contrast


def build_lowpass() -> nn.Module:
    """Return a low-pass filter."""
    from invkit.denoisers.oracles.linear import LowPass  # imports torch

    return LowPass(CUTOFF)


def build_projection() -> nn.Module:
    """Return the means over blocks of 2 x 2 pixels."""
    from invkit.denoisers.oracles.linear import BlockMean  # imports torch

    return BlockMean(2)


def build_soft_threshold() -> nn.Module:
    """Return soft thresholding of Haar coefficients."""
    from invkit.denoisers.oracles.pointwise import SoftThreshold  # imports torch

    return SoftThreshold(TAU, LEVELS)


def build_quantiser() -> nn.Module:
    """Return rounding to steps of grey value."""
    from invkit.denoisers.oracles.pointwise import Quantiser  # imports torch

    return Quantiser(STEP)


def build_injective() -> nn.Module:
    """Return a network that keeps everything."""
    from invkit.denoisers.oracles.planted import Injective  # imports torch

    return Injective()


def build_planted(kind: str) -> nn.Module:
    """Return a network that keeps everything but what is planted."""
    from invkit.denoisers.oracles.planted import BlindBand, BlindDisc, BlindRegion, BlindSign, Planted

    blind: dict[str, Callable[[], nn.Module]] = {
        "band": partial(BlindBand, *BAND),
        "region": partial(BlindRegion, *REGION),
        "disc": partial(BlindDisc, TAU_DISC),
        "sign": BlindSign,
    }
    return Planted(blind[kind]())


def _oracle(
    name: str,
    build: Callable[[], nn.Module],
    layer: Layer,
    description: str,
    citation: str = "",
    multiple: int = 1,
) -> Denoiser:
    return Denoiser(
        name=f"oracle-{name}",
        build=build,
        preprocessing=Affine(mean=0.0, std=1.0),
        layers=(layer,),
        size_multiple=multiple,
        citation=citation,
        description=f"oracle: {description}",
    )


FEATURES = "features", "net", "an invertible residual network behind the blind spot"

ORACLES: tuple[Denoiser, ...] = (
    _oracle(
        "linear-lowpass",
        build_lowpass,
        Layer("filter", module="filter", note="the filtered image"),
        f"ignores all above {CUTOFF} cycles per pixel",
    ),
    _oracle(
        "projection",
        build_projection,
        Layer("mean", module="mean", note="means of 2 x 2 pixels"),
        "ignores all but the means of blocks of 2 x 2 pixels",
        multiple=2,
    ),
    _oracle(
        "soft-threshold",
        build_soft_threshold,
        Layer("shrink", module="shrink", note="Haar coefficients after soft thresholding"),
        f"ignores Haar coefficients of at most {TAU:g} HU",
        "Donoho, D. L. (1995). De-noising by soft-thresholding. IEEE Trans Inf Theory 41(3), 613-627",
        2**LEVELS,
    ),
    _oracle(
        "quantiser",
        build_quantiser,
        Layer("round", module="round", note="grey values in steps"),
        f"ignores changes within a step of {STEP:g} HU; has no gradient",
    ),
    _oracle(
        "injective",
        build_injective,
        Layer("features", module="blocks", note="two residual blocks"),
        "ignores nothing",
        "Behrmann, J. et al. (2019). Invertible residual networks. ICML 2019, 573-582. arXiv:1811.00995",
    ),
    _oracle(
        "planted-band",
        partial(build_planted, "band"),
        Layer(*FEATURES),
        f"ignores frequencies between {BAND[0]} and {BAND[1]} cycles per pixel",
    ),
    _oracle("planted-region", partial(build_planted, "region"), Layer(*FEATURES), "ignores a rectangle"),
    _oracle(
        "planted-disc",
        partial(build_planted, "disc"),
        Layer(*FEATURES),
        f"ignores discs of 5 pixels across and {TAU_DISC:g} HU of contrast, in the middle of each 8 x 8 pixels",
        multiple=8,
    ),
    _oracle("planted-sign", partial(build_planted, "sign"), Layer(*FEATURES), "ignores the sign of a wave"),
)
