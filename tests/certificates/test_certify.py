"""What is called certified is certified: Phi itself says so for every window, and what is not is never shown as if it were."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import invkit
from invkit.certificates.certify import certified_draws, refine_proposals
from invkit.certificates.figures import at_output, certification
from invkit.fiber.tangent import Tangent
from invkit.images.region import choose_region
from invkit.noise.covariance import NoiseCovariance
from invkit.posterior.draws import Posterior, PosteriorDraws
from invkit.statistics.tree import as_json
from invkit.tolerance.frame import Frame
from invkit.tolerance.layer import TolerancedLayer
from invkit.verdict.branch import branch_sentence

SIZE = 48
TOLERANCE = 0.05


def network():
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 1, 5, padding=2))


def toleranced(layer, net=None, *, inner=None, origin=(0, 0)):
    denoiser = invkit.load(net or network())
    split = invkit.Split(denoiser, layer)
    x = 40 + 20 * torch.randn(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    noise = NoiseCovariance(torch.full((SIZE, SIZE), 20.0))
    at = TolerancedLayer.of(
        split, x, denoiser(x), noise, seed=0, tangent=Tangent(split.phi_grad), inner=inner, origin=origin
    )
    return denoiser, at.at(TOLERANCE, Frame(4, (SIZE, SIZE), inner))


def proposals(x, count=6):
    return x + 20 * torch.randn(count, *x.shape[1:], generator=torch.Generator().manual_seed(1))


def largest(layer, images):
    """Return the largest root mean square over windows, in units of S, window by window."""
    z = layer.split.phi(layer.x)
    (s,), (side,) = layer.windows.unit.s, layer.windows.sides
    found = []
    for image in images:
        off = ((layer.split.phi(image[None]) - z) / s)[0].double().square().mean(0)
        tiles = off.unfold(0, side, 1).unfold(1, side, 1)[:: side // 2, :: side // 2]
        found.append(float(tiles.mean((-1, -2)).max().sqrt()))
    return torch.tensor(found)


@pytest.mark.parametrize("layer", ["0", "2", "output"])
def test_certified_draws_keep_the_tolerance_in_every_window(layer):
    denoiser, at = toleranced(layer)
    found = certified_draws(Posterior.of(at).draw(10, seed=0), at, at.x, denoiser)
    assert len(found.images) == 10 and len(found.samples)
    assert (largest(at, found.samples) <= TOLERANCE * 1.0001).all()
    rows = found.rows(4)
    assert [row["sample"] for row in rows] == list(range(10))
    assert {row["image"] for row in rows} == {4}
    assert sum(row["certified"] for row in rows) == len(found.samples)
    f_error = (denoiser(found.images) - denoiser(at.x)).flatten(1).square().mean(1).sqrt()
    torch.testing.assert_close(found.f_error, f_error, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.moved, (found.images - at.x).flatten(1).square().mean(1).sqrt())


@pytest.mark.parametrize("layer", ["0", "2", "output"])
def test_refined_proposals_keep_it_in_every_window(layer):
    denoiser, at = toleranced(layer)
    begun = proposals(at.x)
    found = refine_proposals(begun, at, at.x, denoiser)
    assert found.holds.all()
    assert (largest(at, found.images) <= TOLERANCE * 1.0001).all()
    assert (found.details["distance_before"] > 0.5).all()
    torch.testing.assert_close(found.moved, (found.images - begun).flatten(1).square().mean(1).sqrt())
    judged = as_json(certification([found], seed=0, proposals=[begun]))
    assert judged["count"] == judged["refined"] == 6
    inside = begun[..., 4:-4, 4:-4].double().var(0).mean().sqrt()
    assert judged["proposal_spread_hu"]["value"] == pytest.approx(float(inside), rel=1e-4)


def test_a_part_of_a_larger_image_is_put_back_and_nothing_else_changes():
    inner, origin = (slice(8, 40), slice(8, 44)), (16, 32)
    denoiser, at = toleranced("2", inner=inner, origin=origin)
    whole = torch.zeros(1, 1, 96, 100)
    whole[..., 16:64, 32:80] = at.x
    for found in (
        certified_draws(Posterior.of(at).draw(3, seed=0), at, whole, denoiser),
        refine_proposals(whole + 5, at, whole, denoiser),
    ):
        changed = (found.images != whole).any(0)[0]
        rows, columns = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
        assert (int(rows[0]), int(rows[-1])) == (24, 55) and (int(columns[0]), int(columns[-1])) == (40, 75)
        assert found.interior == (slice(24, 56), slice(40, 76))
        cut = found.images[..., 16:64, 32:80]
        assert (largest(at, cut[found.holds]) <= TOLERANCE * 1.0001).all()


def test_batches_do_not_decide_what_is_drawn_or_found():
    denoiser, at = toleranced("0")
    posterior = Posterior.of(at)
    whole, part = posterior.draw(6, seed=0), posterior.draw(2, seed=0, first=3)
    torch.testing.assert_close(part.images, whole.images[3:5], atol=0.02, rtol=0)
    begun = proposals(at.x)
    whole, part = (refine_proposals(some, at, at.x, denoiser) for some in (begun, begun[:3]))
    torch.testing.assert_close(part.images, whole.images[:3], atol=0.05, rtol=0)


def test_without_a_gradient_nothing_is_refined():
    class Steps(nn.Module):
        def forward(self, x):
            return (x / 10).round().detach() * 10

    denoiser, at = toleranced("2")
    split = invkit.Split(nn.Sequential(Steps(), nn.Conv2d(1, 1, 1)), "0")
    blind = replace(at, split=split, tangent=Tangent(split.phi_grad), windows=at.windows)
    assert refine_proposals(proposals(at.x), blind, at.x, denoiser) is None


def test_what_fails_in_a_window_is_counted_and_never_shown():
    denoiser, at = toleranced("0")
    images = proposals(at.x, 4)
    draws = PosteriorDraws(
        images=images,
        distances=torch.tensor([0.04, 0.06, 0.05, 0.2], dtype=torch.float64),
        tolerance=TOLERANCE,
        drawn=torch.cat([images + 1, images]),
        steps=torch.ones(4, dtype=torch.int64),
        products=torch.ones(4, dtype=torch.int64),
        converged=True,
    )
    found = certified_draws(draws, at, at.x, denoiser)
    assert found.rejected == 6
    assert torch.equal(found.samples, images[[0, 2]])
    assert not found.enough
    first = (images + 1 - at.x)[..., 4:-4, 4:-4].square().mean().sqrt()
    kept = (images[[0, 2]] - at.x)[..., 4:-4, 4:-4].square().mean().sqrt()
    assert found.changed == pytest.approx(float(kept / first) - 1, rel=1e-4)
    judged = as_json(certification([found], seed=0))
    assert (judged["count"], judged["refined"], judged["rejected"]) == (2, 4, 6)


class Residual(nn.Module):
    """f(x) = x - n(x), where n holds the means of blocks of 2 x 2 pixels, so it ignores whatever has none."""

    def __init__(self):
        super().__init__()
        self.blocks, self.n = nn.AvgPool2d(2), nn.Upsample(scale_factor=2)

    def forward(self, x):
        return x - self.n(self.blocks(x))


def test_what_a_residual_branch_ignores_passes_through_unchanged():
    denoiser, at = toleranced("n", Residual())
    blocks = 30 * torch.randn(5, 1, SIZE // 2, SIZE // 2, generator=torch.Generator().manual_seed(4))
    d = torch.kron(blocks, torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    torch.testing.assert_close(denoiser(at.x + d), denoiser(at.x) + d)
    draws = replace(
        Posterior.of(at).draw(5, seed=0), images=at.x + d, distances=torch.zeros(5, dtype=torch.float64)
    )
    found = certified_draws(draws, at, at.x, denoiser, branch=True)
    inside = d[..., 4:-4, 4:-4].double().square().flatten(1).mean(1).sqrt()
    rows = found.rows(0)
    for name in ("interior_change_hu", "interior_f_change_hu"):
        assert [row[name] for row in rows] == pytest.approx(inside.tolist(), rel=1e-5)
    passed = at_output([found], 0.9, seed=0)
    assert passed.change.value == pytest.approx(float(inside.square().mean().sqrt()), rel=1e-5)
    assert passed.ratio == pytest.approx(1, rel=1e-5)
    assert branch_sentence("n", passed).endswith("the change is kept.")


def test_what_leaves_the_frame_aside_is_measured_for_refined_images_too_and_for_branches_alone():
    denoiser, at = toleranced("n", Residual())
    found = refine_proposals(proposals(at.x), at, at.x, denoiser, branch=True)
    moved = (found.images - at.x)[..., 4:-4, 4:-4].square().flatten(1).mean(1).sqrt()
    torch.testing.assert_close(found.details["interior_change_hu"], moved)
    assert "interior_change_hu" not in refine_proposals(proposals(at.x), at, at.x, denoiser).details
    narrow = replace(at, frame=Frame(SIZE // 2, (SIZE, SIZE)))
    assert (
        at_output(
            [certified_draws(Posterior.of(at).draw(2, seed=0), narrow, at.x, denoiser, branch=True)],
            1,
            seed=0,
        ).ratio
        is None
    )


def test_spreads_leave_out_the_frame_and_are_of_the_region():
    denoiser, at = toleranced("0")
    images = at.x + torch.randn(8, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    images[..., :4, :] = 1000 * torch.arange(8.0).view(-1, 1, 1, 1)
    draws = replace(Posterior.of(at).draw(8, seed=0), images=images, distances=torch.zeros(8))
    found = certified_draws(draws, at, at.x, denoiser)
    spread = as_json(certification([found], seed=0))["spread_hu"]["value"]
    assert spread == pytest.approx(float(images[..., 4:-4, 4:-4].double().var(0).mean().sqrt()), rel=1e-4)
    region = choose_region("2,8,12,10", (SIZE, SIZE))
    within = as_json(certification([found], seed=0, region=region))["spread_hu"]["value"]
    assert within == pytest.approx(float(images[..., 8:18, 4:14].double().var(0).mean().sqrt()), rel=1e-4)
    wide = replace(found, interior=(slice(20, 28), slice(20, 28)))
    assert certification([wide], seed=0).spread is None
