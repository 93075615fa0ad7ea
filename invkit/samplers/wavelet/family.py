"""The sampler `wavelet`: a convolutional flow on a wavelet basis of the image itself, which loses nothing."""

__all__ = ["Wavelet"]

from pathlib import Path

from invkit.data.patches import Domain
from invkit.parts.layer_file import read_layer
from invkit.parts.workshop import Workshop
from invkit.samplers.family import TrainedFamily
from invkit.samplers.wavelet.model import WaveletModel
from invkit.samplers.wavelet.store import wavelet_from
from invkit.samplers.wavelet.train import WaveletRequest, WaveletTraining
from invkit.split.split import Split


class Wavelet(TrainedFamily):
    """A flow of each layer's own, without a code."""

    what, training = "wavelet flow", WaveletTraining

    def request(self, split: Split, domain: Domain, workshop: Workshop) -> WaveletRequest:
        """Return what the flow of a layer or control is to be."""
        return WaveletRequest.of(split, domain, workshop)

    def read(self, path: Path, request: WaveletRequest, sha256: str | None = None) -> WaveletModel:
        """Return the flow in a file."""
        return WaveletModel(**read_layer(path, request, sha256, wavelet_from, "flow")[0])
