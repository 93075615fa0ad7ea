"""What an analysis needs of an image is computed once: f(x), D(E(x)), and the image itself."""

from collections import Counter

import numpy as np
import pytest
import torch
from small_network import TINY_OPTIONS, Small, disc_image

import invkit
from invkit.analysis import subject as subjects
from invkit.data import images
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.vae.vae import VAE

OPTIONS = {**TINY_OPTIONS, "samples": 6, "refine": 3}


@pytest.fixture
def counted(monkeypatch, place):
    """Count the calls of f and of D(E(.)) on an image larger than the windows that some measures cut from it."""
    image = disc_image(66, 70)
    counts, x = Counter(), torch.from_numpy(image)[None, None]
    f, reconstruct = LoadedDenoiser.__call__, VAE.reconstruct

    def of_f(self, given):
        counts["f"] += given.shape == x.shape and torch.equal(given, x)
        return f(self, given)

    def of_vae(self, given):
        counts["vae"] += 1
        return reconstruct(self, given)

    def run(**options):
        invkit.analyze(Small(), ["0", "2"], image, **OPTIONS, **options, **place)
        counts.clear()
        monkeypatch.setattr(LoadedDenoiser, "__call__", of_f)
        monkeypatch.setattr(VAE, "reconstruct", of_vae)
        invkit.analyze(Small(), ["0", "2"], image, **OPTIONS, **options, **place)
        monkeypatch.undo()
        return counts

    return run


@pytest.mark.parametrize("sampler", ["vae", "training-free"])
def test_f_of_the_image_is_computed_twice_to_see_that_it_is_the_same_and_never_again(counted, sampler):
    assert counted(sampler=sampler)["f"] == 2


def test_the_reconstruction_is_computed_once_for_all_layers(counted):
    assert counted()["vae"] == 1


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
