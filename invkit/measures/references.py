"""The references of a layer's samples that need no model of the layer: other images, noise, and f(x) plus noise."""

__all__ = ["Distances", "References", "equal_energy", "from_prior", "nearest"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from invkit.data.bank import PatchBank
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.fiber.distance import activation_distance
from invkit.sampling.completion import spectral_noise
from invkit.sampling.draw import Draws
from invkit.sampling.draws import invariances
from invkit.sampling.layer import Target
from invkit.sampling.tiles import Tiling
from invkit.sampling.training_free import training_free
from invkit.training.precision import in_float64
from invkit.training.seeds import derive_seed, generator
from invkit.vae.vae import VAE

PRIOR_DRAWS = 32
NOISE_DRAWS = 8  # noise of one energy is always about as far: more would tell nothing
SHORTLIST = 48  # of the bank, whose activations are computed
PIXELS = SHORTLIST * 128 * 128  # of them together, so larger images have a shorter list
AT_LEAST = 8

Perturb = Callable[[Tensor, Sequence[int]], Tensor]


@dataclass(frozen=True)
class Distances:
    """Distances from x of images that replace it, one entry per image.

    Args:
        fiber_error: root mean square of Phi(.) - Phi(x) over s_Phi, `(n,)`.
        f_error: root mean square of f(.) - f(x), `(n,)`, HU.
        patients: number of the patient that each image is from, where they are of several.
    """

    fiber_error: Tensor
    f_error: Tensor
    patients: tuple[int, ...] | None = None


@dataclass(frozen=True)
class References:
    """What every layer of one analysis is compared with besides its controls.

    What does not depend on the layer, f of these images first of all, is computed once.

    Args:
        denoiser: f.
        x: the images under test, `(B, 1, H, W)`, HU.
        reconstruction: D(E(x)), `(B, 1, H, W)`, HU; `None` where there is no VAE, and no distance of it.
        images: other held-out images of the same dose and size, `(n, 1, H, W)`, HU.
        patients: number of the patient that each of them is from.
        prior: images decoded from draws of the code's prior, `(n, 1, H, W)`, HU; `None` likewise.
        bank: held-out patches that are searched for the nearest.
        seed: decides every draw.
    """

    denoiser: LoadedDenoiser
    x: Tensor
    reconstruction: Tensor | None
    images: Tensor
    patients: tuple[int, ...]
    prior: Tensor | None
    bank: PatchBank
    seed: int
    _outputs: dict[tuple[str, int], Tensor] = field(default_factory=dict, repr=False)

    @property
    def compared(self) -> int:
        """Patches of the bank whose activation is computed."""
        pixels = self.x.shape[-2] * self.x.shape[-1]
        return min(len(self.bank), max(AT_LEAST, min(SHORTLIST, PIXELS // pixels)))

    @torch.no_grad()
    def distances(
        self, draws: Draws, target: Target, image: int, perturb: Perturb | None = None
    ) -> dict[str, Distances]:
        """Measure all references for one layer and image, by name.

        Args:
            draws: the layer's; noise of their energy is added to x.
            target: the image as the layer sees it.
            image: index of the image.
            perturb: what is done to images of the sampled domain before Phi sees them.
        """
        x, f_x = target.x, target.f_x
        free = training_free(x, f_x, seed=self.seed, image=image, indices=range(NOISE_DRAWS))

        near, distance = nearest(self.bank, target, self.compared)
        found = {
            "training_free": self._at(target, free, ("training_free", image)),
            "nearest": Distances(distance, _root_mean_square(self._each(near) - f_x)),
            "random": replace(self._at(target, self.images, ("images", 0)), patients=self.patients),
        }
        if self.prior is not None:
            seen = None if perturb is None else perturb(self.prior, range(len(self.prior)))
            found["unconditional"] = self._at(target, self.prior, ("prior", 0), seen)
        textures: dict[str, Tensor | None] = {"noise_white": None}
        if self.reconstruction is not None:
            kept = self.reconstruction[image : image + 1]
            found["vae"] = self._at(target, kept, ("vae", image))
            textures["noise_residual"] = x - kept
        energy = _root_mean_square(draws.stack[:NOISE_DRAWS].to(x) - x).to(x)
        for name, texture in textures.items():
            noisy = x + equal_energy(energy, x, texture, seed=self.seed, image=image)
            found[name] = self._at(target, noisy)
        return found

    def _at(
        self,
        target: Target,
        images: Tensor,
        key: tuple[str, int] | None = None,
        seen: Tensor | None = None,
    ) -> Distances:
        """Return how far images are; where f of them is not known yet, it comes from the same pass as Phi.

        Args:
            target: the image as the layer sees it.
            images: `(n, 1, H, W)`, HU.
            key: under which f of them is kept, for the next layer asks for it again; nothing is kept by default.
            seen: what Phi sees in their place, likewise; by default themselves.
        """
        outputs = None if key is None else self._outputs.get(key)
        if outputs is None and seen is None:
            passes = [_pass(target, one[None]) for one in images]
            errors, outputs = (torch.cat(parts) for parts in zip(*passes, strict=True))
            errors = errors.cpu() / target.scale
        else:
            errors = _distances(target, images if seen is None else seen)
            outputs = self._each(images) if outputs is None else outputs
        if key is not None:
            self._outputs[key] = outputs
        return Distances(errors, _root_mean_square(outputs - target.f_x))

    def _each(self, images: Tensor) -> Tensor:
        return torch.cat([self.denoiser(one[None]) for one in images])


@torch.no_grad()
def nearest(bank: PatchBank, target: Target, compared: int) -> tuple[Tensor, Tensor]:
    """Return the nearest found patch of a bank, `(1, 1, H, W)`, HU, and its distance over s_Phi, `(1,)`.

    Phi is computed for the patches whose block means are nearest to the image's alone, so the distance is an upper bound of
    that of the nearest patch.

    Args:
        bank: the patches.
        target: the image as the layer sees it.
        compared: for how many patches Phi is computed.
    """
    patches = bank.patches(bank.like(target.x, compared)).to(target.x)
    distances = _distances(target, patches)
    best = int(distances.argmin())
    return patches[best : best + 1], distances[best : best + 1]


def equal_energy(energy: Tensor, x: Tensor, texture: Tensor | None, *, seed: int, image: int) -> Tensor:
    """Return noise of which draw k has exactly the root mean square `energy[k]`, `(n, 1, H, W)`, HU.

    Args:
        energy: `(n,)`, HU.
        x: an image of the size wanted, `(1, 1, H, W)`.
        texture: an image whose radial power spectrum the noise has, `(1, 1, H, W)`, HU; white noise without.
        seed: of the analysis.
        image: index of the image.
    """
    indices = range(len(energy))
    if texture is not None and bool((texture != 0).any()):
        noise = spectral_noise(texture, stream="equal energy", seed=seed, image=image, indices=indices)
    else:
        drawn = [
            torch.randn(x.shape[1:], generator=generator(seed, "equal energy", image, k)) for k in indices
        ]
        noise = torch.stack(drawn)
    noise = noise.to(x)
    return noise * (energy.to(x) / _root_mean_square(noise).to(x))[:, None, None, None]


@torch.no_grad()
def from_prior(vae: VAE, size: Sequence[int], *, seed: int, count: int = PRIOR_DRAWS) -> Tensor:
    """Return images decoded from codes drawn from N(0, 1), `(count, 1, H, W)`, HU; tiles are independent, as in samples.

    Args:
        vae: E and D of the domain that is sampled.
        size: `(H, W)`.
        seed: of the analysis.
        count: how many.
    """
    tiling = Tiling(size[0], size[1], vae.patch)
    own = derive_seed(seed, "prior")
    device = next(vae.parameters()).device
    codes = [invariances(own, 0, tile, range(count), vae.d).to(device) for tile in range(len(tiling))]
    centre = vae.decode(codes[0].new_zeros(1, vae.d))[:, None].expand(-1, len(tiling), -1, -1, -1)
    return tiling.blend_draws(torch.stack([vae.decode(code) for code in codes], dim=1), centre)


def _pass(target: Target, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distance of one image, `(1,)`, and f of it."""
    z, f = target.split.phi_and_f(image)
    return activation_distance(z, target.z), f


def _distances(target: Target, images: Tensor) -> Tensor:
    rows = [activation_distance(target.split.phi(one[None]), target.z) for one in images]
    return torch.cat(rows).cpu() / target.scale


def _root_mean_square(difference: Tensor) -> Tensor:
    return in_float64(difference.flatten(1)).square().mean(1).sqrt().cpu()
