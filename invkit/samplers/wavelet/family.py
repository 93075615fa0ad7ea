"""The sampler `wavelet`: a convolutional flow on a wavelet basis of the image itself, which loses nothing."""

__all__ = ["Wavelet"]

from invkit.data.patches import Domain
from invkit.parts.workshop import Workshop
from invkit.samplers.family import Family
from invkit.samplers.wavelet.model import WaveletModel
from invkit.samplers.wavelet.train import WaveletRequest, find_wavelet, learn_wavelet
from invkit.split.split import Split


class Wavelet(Family):
    """A flow of each layer's own, without a code."""

    what = "wavelet flow"

    def find(self, split: Split, domain: Domain, workshop: Workshop) -> WaveletModel | None:
        """Return the flow of a layer or control, bundled or cached."""
        return find_wavelet(_request(split, domain, workshop), workshop.store)

    def learn(self, split: Split, domain: Domain, workshop: Workshop) -> None:
        """Train the flow of a layer or control."""
        learn_wavelet(_request(split, domain, workshop), workshop.store, progress=workshop.progress)


def _request(split: Split, domain: Domain, workshop: Workshop) -> WaveletRequest:
    return WaveletRequest(
        split, workshop.vae(domain), workshop.slices, workshop.config, domain, workshop.seed
    )
