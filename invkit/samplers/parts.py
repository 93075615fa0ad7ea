"""Finding the trained parts that an analysis needs, or training what is missing."""

__all__ = ["REPRESENTATIONS", "FoundLayer", "Parts", "Representation"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

from invkit.data.patches import Domain
from invkit.data.slices import SliceSet
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.errors import ArtifactError
from invkit.parts.config import LayerConfig
from invkit.parts.layer import LayerRequest, find_layer, learn_layer
from invkit.parts.preset_file import vae_preset
from invkit.parts.store import Store
from invkit.parts.vae import VaeRequest, find_vae, learn_vae
from invkit.samplers.conditional.code import ConditionalConfig
from invkit.samplers.conditional.fit import TrainedConditional, load_conditional
from invkit.samplers.conditional.train import (
    ConditionalRequest,
    ConditionalVaeRequest,
    find_conditional,
    find_conditional_vae,
    learn_conditional,
    learn_conditional_vae,
)
from invkit.samplers.residual.train import ResidualRequest, find_residual, learn_residual
from invkit.samplers.spatial.code import SpatialSettings
from invkit.samplers.spatial.fit import TrainedSpatial, load_spatial
from invkit.samplers.spatial.train import SpatialVaeRequest, find_spatial_vae, learn_spatial_vae
from invkit.samplers.spatial.train_flow import SpatialRequest, find_spatial, learn_spatial
from invkit.samplers.wavelet.train import WaveletRequest, find_wavelet, learn_wavelet
from invkit.sampling.base import SampleModel, Sampler
from invkit.split.split import Split
from invkit.training.processes.distributed import all_true
from invkit.training.processes.sharing import share_out
from invkit.training.progress import Progress
from invkit.vae.trained import TrainedVae, load_vae

Representation = Literal["vae", "wavelet", "spatial", "conditional"]
REPRESENTATIONS: tuple[str, ...] = get_args(Representation)
Part = TypeVar("Part")
FLOWS = {"wavelet": "wavelet flow", "spatial": "flow of spatial codes"}


def silent(_: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class FoundLayer:
    """A layer's model and whether it was `"found"` (bundled or cached) or `"trained"` just now."""

    model: SampleModel
    origin: str


@dataclass(frozen=True)
class Parts:
    """Where trained parts come from in one analysis.

    Args:
        store: bundled and cached parts.
        slices: what missing parts are trained on.
        bundled: use the VAEs that ship with invkit.
        config: of what is trained for a layer.
        vae_preset: of a VAE that has to be trained.
        seed: decides every random number.
        device: where to train.
        representation: of images, that a layer's model is made for.
        progress: called as a training goes on.
        say: called with one line for each part.
        sampler: `"residual"` for layers' models in residual coordinates.
    """

    store: Store
    slices: SliceSet
    bundled: bool
    config: LayerConfig
    vae_preset: str
    seed: int
    device: str
    representation: Representation = "vae"
    progress: Progress | None = None
    say: Callable[[str], None] = silent
    sampler: Sampler = "cinn"
    _vaes: dict[Domain, TrainedVae] = field(default_factory=dict, repr=False)
    _codes: dict[Domain, TrainedSpatial] = field(default_factory=dict, repr=False)
    _given: dict[tuple[str, Domain], TrainedConditional] = field(default_factory=dict, repr=False)

    def found_vae(self, domain: Domain) -> TrainedVae | None:
        """Return the VAE of a domain, `"low"` or `"high"`, or `None` where it would have to be trained."""
        request = self._vae_request(domain)
        return self._vaes.get(domain) or find_vae(
            request, self.store, bundled=self.bundled, device=self.device
        )

    def _vae_request(self, domain: Domain) -> VaeRequest:
        return VaeRequest(domain, self.slices, vae_preset(self.vae_preset), self.config.dose, self.seed)

    def vae(self, domain: Domain) -> TrainedVae:
        """Return the VAE of a domain, `"low"` or `"high"`."""
        if domain not in self._vaes:
            request = self._vae_request(domain)
            self._vaes[domain] = self._learned(
                self.found_vae(domain),
                f"VAE for {domain}-dose images",
                lambda: learn_vae(request, self.store, device=self.device, progress=self.progress),
                lambda path: load_vae(path, device=self.device),
            )
        return self._vaes[domain]

    def spatial_vae(self, domain: Domain) -> TrainedSpatial:
        """Return the VAE with a spatial code of a domain, `"low"` or `"high"`."""
        if domain not in self._codes:
            request = SpatialVaeRequest(
                domain,
                self.slices,
                self.config.settings("spatial", SpatialSettings).vae,
                self.config.dose,
                self.seed,
            )
            self._codes[domain] = self._learned(
                find_spatial_vae(request, self.store, device=self.device),
                f"spatial VAE for {domain}-dose images",
                lambda: learn_spatial_vae(request, self.store, device=self.device, progress=self.progress),
                lambda path: load_spatial(path, device=self.device),
            )
        return self._codes[domain]

    def conditional_vae(self, denoiser: LoadedDenoiser, domain: Domain) -> TrainedConditional:
        """Return the VAE that is given this denoiser's f(x), of a domain, `"low"` or `"high"`."""
        key = denoiser.sha256, domain
        if key not in self._given:
            config, dose = self.config.settings("conditional", ConditionalConfig), self.config.dose
            request = ConditionalVaeRequest(domain, self.slices, config, dose, self.seed, denoiser=denoiser)
            self._given[key] = self._learned(
                find_conditional_vae(request, self.store, device=self.device),
                f"VAE for {domain}-dose images given f(x) of {denoiser.name}",
                lambda: learn_conditional_vae(
                    request, self.store, device=self.device, progress=self.progress
                ),
                lambda path: load_conditional(path, device=self.device),
            )
        return self._given[key]

    def _learned(
        self, found: Part | None, what: str, learn: Callable[[], Path], load: Callable[[Path], Part]
    ) -> Part:
        """Return what was found, or else train it in one process and read it in all."""
        # One process may not see yet what another one sees, and all must go the same way.
        if not all_true(found is not None):
            self.say(f"no {what} matches: training it on {self.slices.description}")
            (path,) = share_out(1, lambda _: learn(), teams=False, everywhere=True)
            found = load(path)
        assert found is not None
        return found

    def request(self, split: Split, vae: TrainedVae, domain: Domain) -> LayerRequest:
        """Return what the cINN of a layer or control is to be."""
        # The length of a code is the VAE's, whatever the preset was made for.
        cinn = self.config.cinn.model_copy(update={"d": vae.vae.config.d})
        config = self.config.model_copy(update={"cinn": cinn})
        return LayerRequest(split, vae, self.slices, config, domain, self.seed)

    def layer(self, split: Split, vae: TrainedVae, domain: Domain) -> FoundLayer:
        """Return the model of a layer or control, in the representation that was asked for."""
        return self.layers([split], vae, domain)[0]

    def layers(self, splits: Sequence[Split], vae: TrainedVae, domain: Domain) -> list[FoundLayer]:
        """Return the models of layers and controls; of those that are missing, each is trained by one process.

        Raises:
            ArtifactError: what another process has trained is not in this one's cache.
        """
        found = [self._find(split, vae, domain) for split in splits]
        missing = [index for index, model in enumerate(found) if not all_true(model is not None)]
        for index in missing:
            what = FLOWS.get(self.representation, "cINN")
            what = "flow of residuals" if self.sampler == "residual" else what
            self.say(f"no {what} for {splits[index].layer} matches: training it on {self.slices.description}")
        share_out(
            len(missing),
            lambda number: self._learn(splits[missing[number]], vae, domain),
            teams=False,
            everywhere=True,
        )
        layers = []
        for index, split in enumerate(splits):
            model = found[index] or self._find(split, vae, domain)
            if model is None:
                raise ArtifactError(
                    f"the model of {split.layer} is not in {self.store.root}: all processes need the same cache"
                )
            layers.append(FoundLayer(model, "trained" if index in missing else "found"))
        return layers

    def _find(self, split: Split, vae: TrainedVae, domain: Domain) -> SampleModel | None:
        if self.representation == "wavelet":
            return find_wavelet(self._wavelet(split, vae, domain), self.store)
        if self.representation == "spatial":
            return find_spatial(self._spatial(split, vae, domain), self.store)
        if self.representation == "conditional":
            return find_conditional(self._conditional(split, vae, domain), self.store)
        if self.sampler == "residual":
            return find_residual(self._residual(split, vae, domain), self.store)
        return find_layer(self.request(split, vae, domain), self.store)

    def _learn(self, split: Split, vae: TrainedVae, domain: Domain) -> None:
        if self.representation == "wavelet":
            learn_wavelet(self._wavelet(split, vae, domain), self.store, progress=self.progress)
        elif self.representation == "spatial":
            learn_spatial(self._spatial(split, vae, domain), self.store, progress=self.progress)
        elif self.representation == "conditional":
            learn_conditional(self._conditional(split, vae, domain), self.store, progress=self.progress)
        elif self.sampler == "residual":
            learn_residual(self._residual(split, vae, domain), self.store, progress=self.progress)
        else:
            learn_layer(self.request(split, vae, domain), self.store, progress=self.progress)

    def _wavelet(self, split: Split, vae: TrainedVae, domain: Domain) -> WaveletRequest:
        return WaveletRequest(split, vae, self.slices, self.config, domain, self.seed)

    def _spatial(self, split: Split, vae: TrainedVae, domain: Domain) -> SpatialRequest:
        code = self.spatial_vae(domain)
        return SpatialRequest(split, vae, self.slices, self.config, domain, self.seed, code=code)

    def _conditional(self, split: Split, vae: TrainedVae, domain: Domain) -> ConditionalRequest:
        code = self.conditional_vae(split.denoiser, domain)
        return ConditionalRequest(split, vae, self.slices, self.config, domain, self.seed, code=code)

    def _residual(self, split: Split, vae: TrainedVae, domain: Domain) -> ResidualRequest:
        return ResidualRequest(split, vae, self.slices, self.config, domain, self.seed)
