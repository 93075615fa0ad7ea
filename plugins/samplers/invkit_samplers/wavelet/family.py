"""The sampler `wavelet`: a convolutional flow on a wavelet basis of the image itself, which loses nothing."""

__all__ = ["Wavelet"]

from pathlib import Path

from invkit import Split
from invkit.samplers import Domain, TrainedFamily, Workshop, read_layer
from invkit_samplers.wavelet.model import WaveletModel
from invkit_samplers.wavelet.store import wavelet_from
from invkit_samplers.wavelet.train import WaveletRequest, WaveletTraining


class Wavelet(TrainedFamily):
    """A flow of each layer's own, without a code."""

    what, training = "wavelet flow", WaveletTraining

    def request(self, split: Split, domain: Domain, workshop: Workshop) -> WaveletRequest:
        """Return what the flow of a layer or control is to be."""
        return WaveletRequest.of(split, domain, workshop)

    def read(self, path: Path, request: WaveletRequest, sha256: str | None = None) -> WaveletModel:
        """Return the flow in a file."""
        return WaveletModel(**read_layer(path, request, sha256, wavelet_from, "flow")[0])
