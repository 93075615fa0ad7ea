"""A family of samplers: the models of layers that draw in one way, found or trained."""

__all__ = ["Family", "FoundLayer", "TrainedFamily", "draws_of", "find_layers", "naming", "open_family"]

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from invkit.data.patches import Domain
from invkit.errors import ArtifactError, InvkitError, PluginError, UsageError
from invkit.parts.layer import LayerTraining, learn
from invkit.parts.layer_file import LayerRequest
from invkit.parts.workshop import Workshop
from invkit.plugins.records import Sampler
from invkit.sampling.base import ImageDraws, ImageSampler, SampleModel
from invkit.sampling.layer import Target
from invkit.split.split import Split


class Family:
    """The models of one kind of sampler for all layers; a plugin's is a subclass, or has the same methods."""

    what = "sampler"
    """What a model of a layer is called while it is trained."""

    def find(self, split: Split, domain: Domain, workshop: Workshop) -> ImageSampler | None:
        """Return what draws for a layer, or `None` where it has to be trained first.

        Where the sampler is trained, it is a `SampleModel`, which has likelihoods and swaps; else whatever has `draws`.

        Args:
            split: the layer, or a control.
            domain: which images are drawn, `"low"` or `"high"`.
            workshop: where trained parts come from.
        """
        raise NotImplementedError

    def learn(self, split: Split, domain: Domain, workshop: Workshop) -> None:
        """Train what `find` then finds.

        Raises:
            DivergedError: a training diverged twice.
        """
        raise PluginError(f"{type(self).__name__} finds nothing for layer {split.layer}, and trains nothing")


class TrainedFamily(Family):
    """A family whose models are trained for each layer and kept as one file each.

    It has three parts: what decides how the model of a layer comes out, what trains it, and what reads it.
    """

    what = "flow"
    training: type[LayerTraining]
    """Trains the model of a layer."""

    def request(self, split: Split, domain: Domain, workshop: Workshop) -> LayerRequest:
        """Return what decides how the model of a layer or control comes out."""
        return LayerRequest.of(split, domain, workshop)

    def read(self, path: Path, request: Any, sha256: str | None = None) -> SampleModel:
        """Return the model in a file.

        Args:
            path: the file.
            request: that it has to answer, as `request` returns it.
            sha256: the file's, where it is known.

        Raises:
            ArtifactError: the file is damaged, or was trained for another layer, data or configuration.
        """
        raise NotImplementedError

    def find(self, split: Split, domain: Domain, workshop: Workshop) -> SampleModel | None:
        """Return the model of a layer or control, bundled or cached."""
        request = self.request(split, domain, workshop)
        found = workshop.store.find(request.kind, workshop.store.key(request.describe()))
        return None if found is None else self.read(found[0], request, found[1])

    def learn(self, split: Split, domain: Domain, workshop: Workshop) -> None:
        """Train the model of a layer or control, and keep it."""
        request = self.request(split, domain, workshop)
        learn(self.training, request, workshop.store, progress=workshop.progress)


@dataclass(frozen=True)
class FoundLayer:
    """What draws for a layer.

    Args:
        split: the layer.
        sampler: what draws.
        origin: whether it was `"found"` (bundled or cached), `"trained"` just now, or `"not needed"`.
        proposals: what its draws are before refinement, for people.
        posterior: whether these are draws of the posterior, which every analysis makes.
    """

    split: Split
    sampler: ImageSampler
    origin: str
    proposals: str = ""
    posterior: bool = False

    @property
    def model(self) -> SampleModel | None:
        """The trained model that draws; `None` where nothing was trained."""
        return self.sampler if isinstance(self.sampler, SampleModel) else None


def open_family(sampler: Sampler, domain: Domain) -> Family:
    """Return the family of a sampler.

    Raises:
        UsageError: it does not draw images of this domain.
        PluginError: it cannot be made.
    """
    if domain not in sampler.domains:
        raise UsageError(
            f"the sampler {sampler.name} draws images of the domain {' or '.join(sampler.domains)}, not {domain}: choose "
            "another sampler or domain"
        )
    with naming(sampler.name, "cannot be made"):
        if isinstance(sampler.family, str):
            module, _, name = sampler.family.partition(":")
            made = getattr(importlib.import_module(module), name)()
        else:
            made = sampler.family()
    family: Family = made
    return family


@contextmanager
def naming(sampler: str, what: str) -> Iterator[None]:
    """Say of which sampler an error is that nobody has foreseen: its plugin is at fault, not whoever called it.

    Args:
        sampler: name of the one whose code runs in the block.
        what: it does not do.

    Raises:
        PluginError: in place of any error that is none of invkit's.
    """
    try:
        yield
    except InvkitError:
        raise
    except Exception as error:
        raise PluginError(f"the sampler {sampler} {what}: {type(error).__name__}: {error}") from error


def draws_of(sampler: str, found: ImageSampler, target: Target) -> ImageDraws:
    """Return what draws for an image; whatever a sampler does wrong is told as its own fault.

    Args:
        sampler: its name.
        found: what draws for the layer.
        target: the image as the layer sees it.

    Raises:
        PluginError: it fails, or gives anything but images `(n, 1, H, W)`.
    """
    with naming(sampler, "cannot draw"):
        draws = found.draws(target)

    def drawn(seed: int, image: int, indices: Sequence[int]) -> Tensor:
        with naming(sampler, "cannot draw"):
            images = draws(seed, image, indices)
        expected = (len(indices), 1, *target.size)
        if not isinstance(images, Tensor) or tuple(images.shape) != expected:
            got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise PluginError(f"the sampler {sampler} must draw images of shape {expected}, got {got}")
        return images

    return drawn


def find_layers(
    sampler: Sampler, family: Family, splits: Sequence[Split], domain: Domain, workshop: Workshop
) -> list[FoundLayer]:
    """Return the samplers of layers and controls; missing models are trained.

    Raises:
        ArtifactError: what was trained is not found again.
        PluginError: a trained sampler's model is none.
    """
    layers = []
    for split in splits:
        with naming(sampler.name, f"finds nothing for layer {split.layer}"):
            found = family.find(split, domain, workshop)
        origin = "found" if sampler.trained else "not needed"
        if found is None:
            workshop.say(
                f"no {family.what} for {split.layer} matches: training it on {workshop.slices.description}"
            )
            with naming(sampler.name, f"cannot be trained for layer {split.layer}"):
                family.learn(split, domain, workshop)
                found, origin = family.find(split, domain, workshop), "trained"
        if found is None:
            raise ArtifactError(
                f"the {family.what} of {split.layer} was trained, and is not in {workshop.store.root}"
            )
        layer = FoundLayer(split, found, origin, sampler.proposals, sampler.posterior)
        if sampler.trained and layer.model is None:
            raise PluginError(
                f"the sampler {sampler.name} says that it is trained, and gave a {type(found).__name__} for {split.layer}, which "
                "has not all that a SampleModel has"
            )
        layers.append(layer)
    return layers
