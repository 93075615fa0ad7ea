"""A layer of a residual network is analysed without a flag, and what the verdict says of its output holds."""

import pytest
import torch
from small_network import UNTRAINED_OPTIONS, disc_image
from split_networks import SharedRed, seeded
from torch import nn

import invkit
from invkit.denoisers.loaded import wrap_module


class Residual(nn.Module):
    """f(x) = x - n(x) / 8, where n holds the means of blocks of 2 x 2 pixels."""

    def __init__(self):
        super().__init__()
        self.blocks, self.n, self.rest = nn.AvgPool2d(2), nn.Upsample(scale_factor=2), nn.Identity()

    def forward(self, x):
        return self.rest(x - self.n(self.blocks(x)) / 8)


def denoiser():
    return wrap_module(Residual(), size_multiple=2)


@pytest.fixture(scope="module")
def result(place):
    options = UNTRAINED_OPTIONS | {"samples": 8, "refine": 8}
    return invkit.analyze(denoiser(), ["n", "rest"], disc_image(40, 32, radius=9), **options, **place)


def test_what_the_branch_ignores_reaches_the_output_and_the_verdict_says_so(result):
    branch, _ = result.layers
    f = denoiser()
    frame = branch.metrics["frame_px"] or 0
    inside = (..., slice(frame, 40 - frame), slice(frame, 32 - frame))
    samples = branch.samples[:, 0]
    rms = [
        float((one - of)[inside].double().square().mean().sqrt())
        for one, of in ((samples, result.x), (f(samples), f(result.x)))
    ]
    figures = branch.metrics["branch"]
    assert [figures[name]["value"] for name in ("change_hu", "f_change_hu")] == pytest.approx(rms, rel=1e-4)
    # n itself changes by no more than the tolerance lets it, so f(x + d) = f(x) + d nearly.
    assert figures["ratio"] == pytest.approx(1, abs=0.02)
    assert 0 < figures["leak"] <= 1.2
    first, second, *_ = branch.verdict.sentences
    assert first.startswith("In short")
    assert second.startswith("Something goes round layer n of ") and second.endswith("the change is kept.")
    assert not any(
        "f of them differs" in sentence for sentence in branch.verdict.sentences[2:]
    )  # once is enough
    assert all("interior_change_hu" in row for row in branch.certificates)
    assert branch.split["bypass"] is True


def test_nothing_of_this_kind_is_said_of_a_cut(result):
    _, cut = result.layers
    assert cut.split["bypass"] is False
    assert "branch" not in cut.metrics
    assert not any("branch" in sentence for sentence in cut.verdict.sentences)
    assert any("; f of them differs from f(x) by" in sentence for sentence in cut.verdict.sentences)
    assert not any("interior_change_hu" in row for row in cut.certificates)
    assert not any("cut" in warning for warning in result.all_warnings)
    assert torch.isfinite(cut.samples).all()


def test_what_has_no_module_is_analysed_and_reported(place, tmp_path):
    layers = ["add#1", "conv#2+first"]
    network = wrap_module(seeded(SharedRed), preprocessing=invkit.Affine(0.0, 500.0))
    result = invkit.analyze(network, layers, disc_image(40, 32, radius=9), **UNTRAINED_OPTIONS, **place)
    assert [layer.layer for layer in result.layers] == layers
    assert all(layer.certificates and "branch" in layer.metrics for layer in result.layers)
    assert result.layers[1].provenance["phi"]["layers"] == ["conv#2", "first"]
    report = result.save(tmp_path / "run") / "report.html"
    assert "conv#2+first" in report.read_text(encoding="utf-8")
