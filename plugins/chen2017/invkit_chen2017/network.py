"""The network of Chen et al. 2017 (arXiv 1610.00321), section 2: three convolutions, no normalisation, no residual."""

__all__ = ["Chen2017"]

from collections import OrderedDict
from typing import Literal

import torch
from torch import nn


class Chen2017(nn.Sequential):
    """Conv 9x9x64, ReLU, conv 3x3x32, ReLU, conv k x k x1, each padded to keep the size.

    Padding is by reflection: with zeros, which stand for -543 HU here, two thirds of the pixels of a patch of 33 x 33
    would be learned from neighbourhoods that no image has.

    Args:
        last_kernel: k; 5 in the paper.
        padding_mode: `"zeros"` as the LDCT benchmark has it.
    """

    def __init__(self, last_kernel: int = 5, padding_mode: Literal["reflect", "zeros"] = "reflect") -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(1, 64, 9, padding=4, padding_mode=padding_mode),
                relu1=nn.ReLU(inplace=True),
                conv2=nn.Conv2d(64, 32, 3, padding=1, padding_mode=padding_mode),
                relu2=nn.ReLU(inplace=True),
                conv3=nn.Conv2d(32, 1, last_kernel, padding=last_kernel // 2, padding_mode=padding_mode),
            )
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
