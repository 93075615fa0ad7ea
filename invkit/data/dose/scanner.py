"""The scanner whose noise is simulated: geometry, kernel, electronic noise, and what shapes its beam."""

__all__ = ["SCANNER", "Scanner"]

import math
from dataclasses import dataclass, field

from invkit.data.dose.geometry import ScannerGeometry
from invkit.data.dose.kernel import Kernel, chosen_kernel
from invkit.data.dose.physics import ELECTRONIC
from invkit.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """Everything about a scanner that decides the noise of a slice.

    Args:
        electronic: standard deviation of the electronic noise, photons.
        kernel: reconstruction kernel, or its name.
        geometry: source, detector and views.
        bowtie: a bowtie filter is in the beam.
        modulation: the tube current is modulated over the rotation.

    Raises:
        UsageError: the electronic noise is out of range, or there is no such kernel.
    """

    electronic: float = ELECTRONIC
    kernel: str | Kernel = "standard"
    geometry: ScannerGeometry = field(default_factory=ScannerGeometry)
    bowtie: bool = False
    modulation: bool = False

    def __post_init__(self) -> None:
        chosen_kernel(self.kernel)
        if not (math.isfinite(self.electronic) and self.electronic >= 0):
            raise UsageError(
                f"electronic noise is a standard deviation in photons, 0 or more, got {self.electronic!r}"
            )


SCANNER = Scanner()
"""That of LDCT-and-Projection-data, with the standard kernel."""
