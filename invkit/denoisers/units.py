"""Whether a denoiser works in the units that it is given: what it does to materials of known HU."""

__all__ = ["UnitsTest", "units_test"]

from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.data.phantoms.inserts import draw_inserts
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.denoisers.spec import Affine, Preprocessing
from invkit.errors import InvkitError
from invkit.statistics.intervals import number

NOISE = 30.0  # HU
IMAGES = 2
# A denoiser moves the mean of a flat area by much less than noise moves a pixel: the bundled ones by 8 HU at most.
MOST = NOISE / 2
IDLE = 0.9  # share of the noise, beyond which a network does hardly anything
ALIKE = 2.0  # HU
BETTER = 1 / 3  # of the largest shift, up to which other units are named
USUAL = (
    ("HU as they are", Affine(0.0, 1.0)),
    ("0 to 1 from -1024 to 3071 HU", Affine(-1024.0, 4095.0)),
    ("0 to 1 from -1000 to 1000 HU", Affine(-1000.0, 2000.0)),
    ("-1 to 1 from -1000 to 1000 HU", Affine(0.0, 1000.0)),
    ("HU + 1024", Affine(-1024.0, 1.0)),
    ("the mean and spread of the LDCT benchmark", Affine(-542.5, 502.2)),
)


@dataclass(frozen=True)
class UnitsTest:
    """What f does to a phantom with noise of 30 HU.

    Args:
        shifts: by how much the mean of each material moves, HU.
        noise_left: share of the noise that is left in soft tissue.
        likely: the units in which the network moves them least, in words, and by how much at most, HU; nothing where they do not
            move, or no other units are much better.
    """

    shifts: dict[str, float]
    noise_left: float
    likely: tuple[str, float] | None = None

    @property
    def worst(self) -> float:
        """The largest shift, HU."""
        return max(map(abs, self.shifts.values()))

    @property
    def passed(self) -> bool:
        """Whether no material moves by more than half the noise of a pixel."""
        return self.worst <= MOST

    @property
    def warning(self) -> str:
        """What to say of it; nothing where it is as it should be."""
        if self.passed:
            return ""
        moved = ", ".join(
            f"{name} by {number(shift)} HU" for name, shift in self.shifts.items() if abs(shift) > MOST
        )
        said = f"Are the units right? In a test phantom with noise of {NOISE:g} HU, f moves {moved}, which noise does not explain. "
        if self.likely is None:
            return said + (
                "No other usual units do better: the mean and spread may be those of another set of images, or the network is not "
                "trained"
            )
        units, worst = self.likely
        return (
            said + f"If the network took {units}, it would move no material by more than {number(worst)} HU"
        )


def units_test(denoiser: LoadedDenoiser) -> UnitsTest | None:
    """Return what a denoiser does to materials of known HU; `None` where it cannot be run on the phantom.

    Where a material moves, the usual mistakes are tried: other units, and 1024 added or not.

    Args:
        denoiser: f.
    """
    x = _phantom().to(denoiser.device)
    try:
        found = _measured(denoiser, x)
    except InvkitError:
        return None
    if found.passed:
        return found
    tried: list[tuple[float, str]] = []
    for name, units in (*_shifted(denoiser.preprocessing), *USUAL):
        if units.describe() == denoiser.preprocessing.describe():
            continue
        other = LoadedDenoiser(
            denoiser.spec, denoiser.network, weights_tag=denoiser.weights_tag, preprocessing=units
        )
        try:
            measured = _measured(other, x)
        except InvkitError:
            continue
        # Units in which hardly any noise is removed move nothing because they do nothing.
        if measured.noise_left <= max(IDLE, found.noise_left):
            tried.append((measured.worst, name))
    if not tried or min(tried)[0] > BETTER * found.worst:
        return found
    # Of units that do as well, the one that is nearest to what was said.
    worst, name = next(one for one in tried if one[0] <= min(tried)[0] + ALIKE)
    return UnitsTest(found.shifts, found.noise_left, (name, worst))


def _phantom() -> Tensor:
    clean = torch.from_numpy(draw_inserts().image)
    noise = torch.randn((IMAGES, 1, *clean.shape), generator=torch.Generator().manual_seed(0))
    return clean + NOISE * noise


def _measured(denoiser: LoadedDenoiser, x: Tensor) -> UnitsTest:
    with torch.no_grad():
        out = denoiser(x)
    if not bool(torch.isfinite(out).all()):
        return UnitsTest({"the image": float("inf")}, 1.0)
    places = {name: torch.from_numpy(place) for name, place in draw_inserts().places.items()}
    moved = (out - x).mean((0, 1)).cpu()
    flat = places["soft tissue"].to(out.device)
    left = float(out[..., flat].std() / x[..., flat].std())
    return UnitsTest({name: float(moved[place].mean()) for name, place in places.items()}, left)


def _shifted(own: Preprocessing) -> tuple[tuple[str, Affine], ...]:
    if not isinstance(own, Affine):
        return ()
    return (
        ("the same with 1024 added to HU", Affine(own.mean - 1024.0, own.std)),
        ("the same without 1024 added to HU", Affine(own.mean + 1024.0, own.std)),
    )
