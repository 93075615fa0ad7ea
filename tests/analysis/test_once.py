"""What an analysis needs of an image is computed once: f(x), D(E(x)), and the image itself."""

from collections import Counter

import numpy as np
import pytest
import torch
from kept_vae import IMAGE_NOISE, with_vae
from small_network import Small, disc_image
from torch import nn

import invkit
from invkit.analysis import subject as subjects
from invkit.data import images
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.vae.vae import VAE

OPTIONS = {**IMAGE_NOISE, "samples": 6, "refine": 1}


@pytest.fixture(scope="module")
def network():
    """A network whose first two layers are injective and linear, so that refining their samples is quick."""
    first, _, last = Small()
    second = nn.Conv2d(3, 3, 1, bias=False)
    nn.init.dirac_(second.weight)
    return nn.Sequential(first, second, last)


@pytest.fixture(scope="module")
def image():
    """An image larger than the windows that some measures cut from it."""
    return disc_image(66, 70)


@pytest.fixture(scope="module")
def trained(place, network, image, tmp_path_factory):
    """A place in which all parts are trained."""
    with_vae(place, tmp_path_factory)
    invkit.analyze(network, ["0", "1"], image, **OPTIONS | {"refine": "none"}, **place)
    return place


@pytest.mark.parametrize(("sampler", "reconstructions"), [("vae", 1), ("training-free", 0)])
def test_nothing_of_the_image_is_computed_again_for_another_layer(
    sampler, reconstructions, monkeypatch, trained, network, image
):
    """f(x) is computed twice, to see that it is the same, and D(E(x)) once where there is a VAE."""
    counts, x = Counter(), torch.from_numpy(image)[None, None]
    f, reconstruct = LoadedDenoiser.__call__, VAE.reconstruct

    def of_f(self, given):
        counts["f"] += given.shape == x.shape and torch.equal(given, x)
        return f(self, given)

    def of_vae(self, given):
        counts["vae"] += 1
        return reconstruct(self, given)

    monkeypatch.setattr(LoadedDenoiser, "__call__", of_f)
    monkeypatch.setattr(VAE, "reconstruct", of_vae)
    invkit.analyze(network, ["0", "1"], image, sampler=sampler, **OPTIONS, **trained)
    assert counts["f"] == 2
    assert counts["vae"] == reconstructions


def test_a_series_is_read_once(monkeypatch, tmp_path, place):
    path = tmp_path / "series.npy"
    np.save(path, np.stack([disc_image(32, 32), disc_image(32, 32, radius=5)]))
    reads, read = [], images.read_scan

    def counted_read(*args, **options):
        reads.append(args)
        return read(*args, **options)

    for module in (images, subjects, __import__("invkit.analysis.series", fromlist=["read_scan"])):
        monkeypatch.setattr(module, "read_scan", counted_read)
    options = {**OPTIONS, "sampler": "training-free", "refine": "none"}
    result = invkit.analyze_series(Small(), "0", path, out=tmp_path / "run", **options, **place)
    assert len(result) == 2
    assert len(reads) == 1
