"""What is known of a network that was not described by a plugin."""

__all__ = ["Found", "channels_of"]

from dataclasses import dataclass, field

from torch import nn

from invkit.denoisers.spec import Call
from invkit.errors import DenoiserError


@dataclass(frozen=True)
class Found:
    """A network and what its file says about how it is used.

    Args:
        network: in eval mode, on the CPU.
        channels: of its input, 1 or 3.
        call: how it is called.
        size_multiple: of the sides of its images; `None` where it is to be found by trying.
    """

    network: nn.Module
    channels: int = 1
    call: Call = field(default_factory=Call)
    size_multiple: int | None = None


def channels_of(count: int, *, owner: str) -> tuple[int, Call]:
    """Return what a number of input channels stands for: a grey image, a colour image, or neighbouring slices.

    Raises:
        DenoiserError: it stands for none of them.
    """
    if count in (1, 3):
        return count, Call()
    if count % 2 == 0:
        raise DenoiserError(
            f"{owner} takes {count} channels, which are neither grey (1), colour (3) nor an odd number of slices: describe it "
            "with an invkit.Denoiser and its call"
        )
    return 1, Call(slices=count)
