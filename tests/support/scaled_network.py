"""A network that scales: f(x) = factor x, and the layer `inner` is x itself, three times as large."""

import torch
from torch import nn


class Scaled(nn.Module):
    """One convolution of one pixel, and a factor."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.inner = nn.Conv2d(1, 1, 1, bias=False)
        self.factor = factor
        with torch.no_grad():
            self.inner.weight.fill_(3.0)

    def forward(self, x):
        return self.factor * self.inner(x) / 3
