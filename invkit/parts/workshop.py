"""Where the trained parts of one analysis come from: what they are trained on, where they are kept, and how they come out."""

__all__ = ["Workshop", "silent"]

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from invkit.data.patches import Domain
from invkit.data.slices import SliceSet
from invkit.parts.code import CodeRequest, CodeTraining, learn_code
from invkit.parts.config import LayerConfig
from invkit.parts.preset_file import vae_preset
from invkit.parts.store import Store
from invkit.parts.vae import VaeRequest, find_vae, learn_vae
from invkit.training.progress import Progress
from invkit.vae.trained import TrainedVae, load_vae
from invkit.vae.vae import CodeConfig, VaeConfig

Part = TypeVar("Part")
Config = TypeVar("Config", bound=CodeConfig)


def silent(_: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Workshop:
    """What trained parts are found in, trained on and made with.

    Args:
        store: bundled and cached parts.
        slices: what missing parts are trained on.
        bundled: use the VAEs that ship with invkit.
        config: of what is trained for a layer.
        vae_preset: of a VAE that has to be trained, by name or as it is.
        seed: decides every random number.
        device: where to train.
        progress: called as a training goes on.
        say: called with one line for each part.
    """

    store: Store
    slices: SliceSet
    bundled: bool
    config: LayerConfig
    vae_preset: str | VaeConfig
    seed: int
    device: str
    progress: Progress | None = None
    say: Callable[[str], None] = silent
    _learned: dict[object, object] = field(default_factory=dict, repr=False)

    def found_vae(self, domain: Domain) -> TrainedVae | None:
        """Return the VAE of a domain, `"low"` or `"high"`, or `None` where it would have to be trained."""
        request = self._vae_request(domain)
        known = self._learned.get((request.kind, request.domain))
        if isinstance(known, TrainedVae):
            return known
        return find_vae(request, self.store, bundled=self.bundled, device=self.device)

    def vae(self, domain: Domain) -> TrainedVae:
        """Return the VAE of a domain, `"low"` or `"high"`."""
        request = self._vae_request(domain)
        return self.learned(
            (request.kind, request.domain),
            f"VAE for {domain}-dose images",
            lambda: self.found_vae(domain),
            lambda: load_vae(
                learn_vae(request, self.store, device=self.device, progress=self.progress), device=self.device
            ),
        )

    def code(
        self,
        request: CodeRequest[Config],
        training: type[CodeTraining[Config, Any]],
        read: Callable[..., Part],
        *,
        what: str,
    ) -> Part:
        """Return a code that several layers share: found, or else trained; looked for once in an analysis.

        Args:
            request: what is wanted.
            training: trains it.
            read: reads it, as `read(path, sha256=None, device="cpu")`.
            what: it is, for people.
        """
        key = self.store.key(request.describe())

        def find() -> Part | None:
            found = self.store.find(request.kind, key)
            return None if found is None else read(found[0], sha256=found[1], device=self.device)

        def learn() -> Part:
            path = learn_code(training, request, self.store, device=self.device, progress=self.progress)
            return read(path, device=self.device)

        return self.learned((request.kind, key), what, find, learn)

    def learned(
        self, key: object, what: str, find: Callable[[], Part | None], learn: Callable[[], Part]
    ) -> Part:
        """Return a part that several layers share: found, or else trained; looked for once in an analysis.

        Args:
            key: under which it is remembered.
            what: it is, for people.
            find: returns it, bundled or cached, or `None`.
            learn: trains and keeps it, and returns it.
        """
        if key not in self._learned:
            found = find()
            if found is None:
                self.say(f"no {what} matches: training it on {self.slices.description}")
                found = learn()
            self._learned[key] = found
        return self._learned[key]  # type: ignore[return-value]

    def _vae_request(self, domain: Domain) -> VaeRequest:
        return VaeRequest(domain, self.slices, vae_preset(self.vae_preset), self.config.dose, self.seed)
