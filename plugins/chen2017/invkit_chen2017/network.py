"""The network of Chen et al. 2017 (arXiv 1610.00321), section 2: three convolutions, no normalisation, no residual."""

__all__ = ["Chen2017"]

from collections import OrderedDict

from torch import nn


class Chen2017(nn.Sequential):
    """Conv 9x9x64, ReLU, conv 3x3x32, ReLU, conv k x k x1, each padded with zeros to keep the size.

    Args:
        last_kernel: k; 5 in the paper.
    """

    def __init__(self, last_kernel: int = 5) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(1, 64, 9, padding=4),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(64, 32, 3, padding=1),
                relu2=nn.ReLU(),
                conv3=nn.Conv2d(32, 1, last_kernel, padding=last_kernel // 2),
            )
        )
