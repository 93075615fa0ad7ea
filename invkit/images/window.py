"""Display windows: which HU are shown as black and as white."""

__all__ = ["EXAM_WINDOWS", "WINDOWS", "Window", "apply_window"]

from typing import NamedTuple

from torch import Tensor

from invkit.errors import InputError


class Window(NamedTuple):
    """A display window: centre and width in HU."""

    center: float
    width: float

    @property
    def limits(self) -> tuple[float, float]:
        """The HU values shown as black and as white."""
        return self.center - self.width / 2, self.center + self.width / 2


WINDOWS = {"chest": Window(-600.0, 1500.0), "abdomen": Window(50.0, 400.0), "neuro": Window(40.0, 80.0)}


# By the letter of the exam type in the LDCT benchmark.
EXAM_WINDOWS = {"C": WINDOWS["chest"], "L": WINDOWS["abdomen"], "N": WINDOWS["neuro"]}


def apply_window(x: Tensor, window: Window) -> Tensor:
    """Map HU to [0, 1] by DICOM's linear window function (PS3.3 C.11.2.1.2.1), any shape.

    Raises:
        InputError: a window that is not wider than 1 HU.
    """
    if window.width <= 1:
        raise InputError(f"a window's width must be above 1 HU, got {window.width}")
    return ((x - (window.center - 0.5)) / (window.width - 1) + 0.5).clamp(0, 1)
