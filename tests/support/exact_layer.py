"""A layer in float64, and its Jacobian as a matrix."""

import copy

import torch

from invkit.denoisers.loaded import LoadedDenoiser
from invkit.split.split import Split


def in_float64(split):
    """Return the same layer of a copy of the network in float64."""
    denoiser = split.denoiser
    exact = LoadedDenoiser(
        denoiser.spec,
        copy.deepcopy(denoiser.network).double(),
        weights_tag="",
        preprocessing=denoiser.preprocessing,
    )
    return Split(exact, split.layer)


def jacobian(split, x):
    """Return J in float64, `(elements, pixels)`, by forward differentiation of a copy of the network."""
    phi = in_float64(split).phi_grad
    at = x.double()

    def column(direction):
        return torch.func.jvp(lambda image: phi(image).flatten(), (at,), (direction,))[1]

    units = torch.eye(x.numel(), dtype=torch.float64).view(-1, *at.shape)
    with torch.no_grad():
        return torch.func.vmap(column, chunk_size=50)(units).T
