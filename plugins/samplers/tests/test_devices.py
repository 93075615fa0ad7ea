"""With these samplers an analysis moves all that it must: on a device that the CPU plays it gives what it gives on the CPU."""

import invkit_samplers
import pytest
import torch
from device_double import device_double
from small_network import TINY_OPTIONS, Small

import invkit

OPTIONS = {**TINY_OPTIONS, "train_noise": "image", "samples": 12, "refine": 10}


@pytest.fixture(scope="module")
def on_cpu(place, image):
    """Analyses on the CPU."""
    known = {}

    def analysed(name):
        if name not in known:
            known[name] = invkit.analyze(Small(), "0", image, **OPTIONS, sampler=name, **place)
        return known[name]

    return analysed


@pytest.mark.slow
@pytest.mark.parametrize("device", ["mps", "cuda"])
@pytest.mark.parametrize("name", invkit_samplers.SAMPLERS)
def test_every_sampler(name, device, image, on_cpu, place, tmp_path):
    wanted = on_cpu(name)
    with device_double(device):
        found = invkit.analyze(
            Small().to(device),
            "0",
            image,
            **OPTIONS,
            sampler=name,
            device=device,
            cache=tmp_path,
            host=place["host"],
        )
        found.report(tmp_path / "report.html")
    torch.testing.assert_close(found.raw.cpu(), wanted.raw, rtol=0, atol=1e-2)
    torch.testing.assert_close(found.samples.cpu(), wanted.samples, rtol=0, atol=1e-2)
    nll, expected = (one.layers[0].metrics["nll"]["layer"] for one in (found, wanted))
    assert nll == pytest.approx(expected, abs=1e-4)
