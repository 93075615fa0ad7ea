"""A denoiser cut at a layer: f = Psi o Phi, z = Phi(x)."""

__all__ = ["Split"]

from torch import Tensor

from invkit.split.check import SplitReport, check_split
from invkit.split.cut import Cut


class Split(Cut):
    """A denoiser cut at a layer, or at a set of layers that together form a cut.

    A layer string is a plugin's key (`"3"`), a module's name (`"net.4"`, or `"module:3"` where a key has
    that name too), one run of a module that runs several times (`"conv#2"`), a call of a torch function (`"add#2"`, in the order of
    the calls in a forward pass; `"function:add#2"` where a module has that name too), an element of what one of these
    returns (`"name:0"`, `"name.key"`, nested as `"name:1.key"`), or a set of several (`"a+b"`). Three names are reserved:
    `input` (z = x in HU) and `const` (z = 0), the controls, which do not depend on the denoiser, and `output` (z = output of the
    network, network units, padded).

    z refers to the padded image where the denoiser has a size multiple.

    Args:
        denoiser: a loaded denoiser, or any network from HU to HU.
        layer: where to cut; a sequence is a set.
        allow_bypass: no longer needed, and without effect: a layer that something goes round is a branch, and `check` says so.

    Raises:
        SplitError: there is no such layer (the message lists those that exist), or the network is TorchScript.
        DenoiserError: `denoiser` is not a usable network.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))
        >>> split = Split(network, "0")
        >>> x = torch.zeros(2, 1, 16, 16)
        >>> tuple(split.phi(x).shape)
        (2, 4, 16, 16)
    """

    def check(self, x_hu: Tensor, f_x: Tensor | None = None) -> SplitReport:
        """Check on images that the network can be split here, before anything is trained on it; say if this is a branch.

        Args:
            x_hu: finite images, shape `(B, 1, H, W)`, HU.
            f_x: f of them, if already known to be deterministic; computed otherwise.

        Raises:
            SplitError: the layer does not run exactly once, returns no tensor with one row per image, or is not
                exact; the message says why and what to do.
            DenoiserError: the network breaks its contract.
        """
        return check_split(self, x_hu, f_x=f_x)
