"""Gaussian smoothing as a denoiser for invkit: a network with fixed weights."""

__all__ = ["build", "invkit_denoisers", "invkit_metrics", "removed_energy"]

import invkit


def build(sigma=1.0, radius=3):
    """Make the network: it smooths, splits by ReLU into a positive and a negative part, and joins them again.

    Args:
        sigma: standard deviation of the Gaussian, pixels.
        radius: the kernel is `2 * radius + 1` pixels wide.
    """
    import torch  # here and not above: listing plugins must not import torch
    from torch import nn

    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    line = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = torch.outer(line, line) / line.sum() ** 2
    smooth = nn.Conv2d(1, 2, 2 * radius + 1, padding=radius, padding_mode="replicate", bias=False)
    join = nn.Conv2d(2, 1, 1, bias=False)
    with torch.no_grad():
        smooth.weight.copy_(torch.stack([kernel, -kernel]).unsqueeze(1))
        join.weight.copy_(torch.tensor([1.0, -1.0]).view(1, 2, 1, 1))
    network = nn.Sequential()
    network.add_module("smooth", smooth)
    network.add_module("relu", nn.ReLU())
    network.add_module("join", join)
    return network


def removed_energy(result):
    """Return the share of the image's variance that the mean of the samples no longer has."""
    return 1.0 - float(result.mean.var() / result.x.var())


@invkit.hookimpl
def invkit_denoisers():
    """Return the denoiser `gaussian`."""
    return [
        invkit.Denoiser(
            name="gaussian",
            build=build,
            preprocessing=invkit.Affine(mean=0.0, std=1000.0),
            layers=(
                invkit.Layer("1", module="smooth", note="conv 7x7x2, before ReLU"),
                invkit.Layer("2", module="relu", note="positive and negative part"),
            ),
            description="Gaussian smoothing, sigma 1 pixel, fixed weights",
        )
    ]


@invkit.hookimpl
def invkit_metrics():
    """Return the metric `removed-energy`."""
    return [
        invkit.Metric(
            name="removed-energy",
            compute=removed_energy,
            description="share of the variance of x that the mean of the samples lacks",
        )
    ]
