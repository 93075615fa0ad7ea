"""Finding the trained parts that an analysis needs, or training what is missing."""

__all__ = ["FoundLayer", "Parts"]

from collections.abc import Callable
from dataclasses import dataclass, field

from invkit.data.slices import SliceSet
from invkit.pipeline.layer_config import LayerConfig
from invkit.pipeline.preset_file import vae_preset
from invkit.pipeline.store import Store
from invkit.pipeline.train_layer import LayerRequest, find_layer, learn_layer
from invkit.pipeline.train_vae import Domain, VaeRequest, find_vae, learn_vae
from invkit.representation.trained import TrainedVae, load_vae
from invkit.sampling.model import SampleModel
from invkit.split.split import Split
from invkit.training.progress import Progress


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
        progress: called as a training goes on.
        say: called with one line for each part.
    """

    store: Store
    slices: SliceSet
    bundled: bool
    config: LayerConfig
    vae_preset: str
    seed: int
    device: str
    progress: Progress | None = None
    say: Callable[[str], None] = silent
    _vaes: dict[Domain, TrainedVae] = field(default_factory=dict, repr=False)

    def vae(self, domain: Domain) -> TrainedVae:
        """Return the VAE of a domain, `"low"` or `"high"`."""
        if domain not in self._vaes:
            config = vae_preset(self.vae_preset)
            request = VaeRequest(domain, self.slices, config, self.config.dose, self.seed)
            found = find_vae(request, self.store, bundled=self.bundled, device=self.device)
            if found is None:
                self.say(f"no VAE for {domain}-dose images matches: training it on {self.slices.description}")
                path = learn_vae(request, self.store, device=self.device, progress=self.progress)
                found = load_vae(path, device=self.device)
            self._vaes[domain] = found
        return self._vaes[domain]

    def request(self, split: Split, vae: TrainedVae, domain: Domain) -> LayerRequest:
        """Return what the cINN of a layer or control is to be."""
        # The length of a code is the VAE's, whatever the preset was made for.
        cinn = self.config.cinn.model_copy(update={"d": vae.vae.config.d})
        config = self.config.model_copy(update={"cinn": cinn})
        return LayerRequest(split, vae, self.slices, config, domain, self.seed)

    def layer(self, split: Split, vae: TrainedVae, domain: Domain) -> FoundLayer:
        """Return the cINN of a layer or control."""
        request = self.request(split, vae, domain)
        model = find_layer(request, self.store)
        if model is not None:
            return FoundLayer(model, "found")
        self.say(f"no cINN for {split.layer} matches: training it on {self.slices.description}")
        return FoundLayer(learn_layer(request, self.store, progress=self.progress), "trained")
