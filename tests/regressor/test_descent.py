"""The descent of a regressor onto the image, against maps whose inverse or whose loss is known."""

import json

import pytest
import torch
from regressor_pairs import images, pairs_of
from torch import nn

from invkit.data.slices import HU_RANGE
from invkit.errors import DivergedError, UsageError
from invkit.regressor.descent import descend
from invkit.regressor.regress import Regression, train_regressor
from invkit.regressor.regressor import Regressor, RegressorConfig
from invkit.regressor.ridge import Moments
from invkit.training.engine import Shard
from invkit.training.seeds import generator

WHOLE = Shard(0, 1)
SMALL = RegressorConfig(
    hidden=8, most_channels=8, stages=8, stage_batches=16, steps=40, batch=4, patch=24, held_out=8, bf16=False
)


def bent(x):
    """Eight filters of 3 x 3 pixels, bent: an image can be had back from them, but by no linear map."""
    filters = torch.randn(8, 1, 3, 3, generator=generator(2)) / 300
    return nn.functional.silu(nn.functional.conv2d(x, filters, padding=1))


def unshuffled(x):
    return nn.functional.pixel_unshuffle(bent(x), 2)


def means(x):
    return nn.functional.avg_pool2d(x, 2)


def fitted(phi, config=SMALL, halt=lambda looks: False):
    pairs, others = pairs_of(phi), pairs_of(phi, seed=1)
    regressor = Regressor(pairs(0, WHOLE)[0], (24, 24), config)
    regressor.net = None
    regressor.calibrate([pairs(step, WHOLE) for step in range(8)])
    batches = [[source(step, WHOLE) for step in range(config.stage_batches)] for source in (pairs, others)]
    return regressor, descend(regressor, *batches, phi, halt), batches[1]


def rmse(regressor, batches, **given):
    errors = [(regressor(z, **given) - x).square().mean() for z, x in batches]
    return torch.stack(errors).mean().sqrt().item()


@pytest.mark.parametrize(("phi", "many"), [(bent, 8), (unshuffled, 32)])
def test_what_can_be_had_back_is_had_back(phi, many):
    config = SMALL.model_copy(update={"most_channels": many})
    regressor, looks, held_out = fitted(phi, config)
    assert looks[-1] < 0.05 * looks[0]
    assert rmse(regressor, held_out, phi=phi) == pytest.approx(min(looks), rel=1e-3, abs=1e-3)
    # Each stage by itself: the first ones are those of a shorter descent.
    for count in range(3):
        assert rmse(regressor, held_out, phi=phi, stages=count) == pytest.approx(
            looks[count], rel=1e-3, abs=1e-3
        )


def test_what_is_lost_stays_lost():
    """Means of blocks: the best linear map is all there is to know, and stages add nothing."""
    regressor, looks, held_out = fitted(means)
    assert min(looks) > 0.97 * looks[0]
    lost = [(x - means(x).repeat_interleave(2, -1).repeat_interleave(2, -2)) for _, x in held_out]
    # What the estimate keeps of the block means is exact, or nearly so.
    kept = [(means(regressor(z, phi=means)) - z).square().mean() for z, _ in held_out]
    assert torch.stack(kept).mean() < 0.01 * torch.cat(lost).square().mean()


def test_as_many_stages_are_kept_as_leave_the_least_error():
    regressor, looks, _ = fitted(means)
    assert len(regressor.stages) == looks.index(min(looks))
    regressor, looks, _ = fitted(bent, halt=lambda looks: len(looks) == 3)
    assert len(looks) == 3
    assert len(regressor.stages) == 2
    assert [stage.before for stage in fitted(bent)[0].stages][:4] == [0, 1, 2, 2]


def test_nothing_is_asked_where_nothing_varies():
    regressor, looks, _ = fitted(torch.zeros_like)
    assert len(looks) == 1
    assert not len(regressor.stages)


def test_stages_need_phi_and_survive_storage():
    regressor, _, held_out = fitted(bent)
    z, _ = held_out[0]
    with pytest.raises(UsageError, match="pass phi"):
        regressor(z)
    tensors, meta = regressor.state()
    assert not any(name.startswith("net.") for name in tensors)
    again = Regressor.from_state(tensors, json.loads(json.dumps(meta)))
    assert torch.equal(again(z, phi=bent), regressor(z, phi=bent))
    assert torch.equal(again(z, phi=bent, stages=1), regressor(z, phi=bent, stages=1))


def test_estimates_keep_within_the_range_of_hu():
    regressor, _, held_out = fitted(bent)
    z, _ = held_out[0]
    found = regressor(50 * z, phi=bent)
    assert found.min() >= HU_RANGE[0] - 0.01
    assert found.max() <= HU_RANGE[1] + 0.01


def test_the_same_again_bit_for_bit():
    first, second = fitted(bent)[0].state()[0], fitted(bent)[0].state()[0]
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_no_network_is_trained_where_the_descent_gets_far(tmp_path):
    told = []

    def judge(regressor, stages):
        return {"stages": float(len(regressor.stages)), "asked": float(stages)}

    data = Regression(pairs_of(bent), pairs_of(bent, seed=1), bent, judge)
    found = train_regressor(data, SMALL, tmp_path / "run", progress=told.append)
    assert found.regressor.net is None
    assert not (tmp_path / "run").exists()
    curve = dict(found.learning["rmse_hu"])
    assert list(curve) == [event.step for event in told] == list(range(len(curve)))
    assert found.metrics["rmse_hu"] == min(curve.values()) < 0.5 * curve[0]
    judged = [(count, float(count)) for count in (0, 2, 4)]
    assert found.learning["stages"] == found.learning["asked"] == judged


def test_the_network_is_trained_where_the_descent_does_not_get_far(tmp_path):
    """The image that is wanted is another than the one that z is of."""

    def pairs(seed):
        def of(step, shard):
            x = images(step, seed=seed)[shard.slice(4)]
            return bent(x), (x / 50).tanh() * 100

        return of

    config = SMALL.model_copy(update={"stages": 2, "steps": 160})
    found = train_regressor(Regression(pairs(0), pairs(1), bent), config, tmp_path)
    start = dict(found.learning["rmse_hu"])[0]
    assert found.regressor.net is not None
    assert not len(found.regressor.stages)
    assert max(dict(found.learning["rmse_hu"])) == config.steps
    assert found.metrics["rmse_hu"] < 0.8 * start


def test_nothing_is_trained_where_z_is_constant(tmp_path):
    pairs = pairs_of(torch.zeros_like)
    found = train_regressor(Regression(pairs, pairs, torch.zeros_like), SMALL, tmp_path / "run")
    assert found.regressor.net is None
    assert not (tmp_path / "run").exists()


def test_moments_are_those_of_least_squares():
    """Against torch.linalg.lstsq in float64, on all neighbourhoods written out."""
    features = torch.randn(3, 2, 9, 7, generator=generator(5))
    target = torch.randn(3, 2, 9, 7, generator=generator(6))
    moments = Moments(2, 2, 3)
    moments.add(features[:1], target[:1])
    rest = Moments(2, 2, 3)
    rest.add(features[1:], target[1:])
    whole = moments + rest
    rows = nn.functional.unfold(features.double(), 3, padding=1).transpose(1, 2).reshape(-1, 18)
    rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
    wanted = target.double().permute(0, 2, 3, 1).reshape(-1, 2)
    truth = torch.linalg.lstsq(rows, wanted).solution
    found = whole.solve(0.0)
    torch.testing.assert_close(found, truth, atol=1e-5, rtol=1e-5)
    assert whole.loss(truth) == pytest.approx((rows @ truth - wanted).square().sum().item(), rel=1e-5)
    assert whole.solve(1e3).abs().max() < 0.01 * found.abs().max()
    weight, bias = whole.kernel(found)
    made = nn.functional.conv2d(features, weight, bias, padding=1)
    torch.testing.assert_close(
        made.permute(0, 2, 3, 1).reshape(-1, 2).double(), rows @ truth, atol=1e-4, rtol=1e-4
    )


def test_an_activation_that_is_not_finite_ends_in_a_clear_error(tmp_path):
    def broken(x):
        return bent(x) / 0.0

    with pytest.raises(DivergedError, match="not finite"):
        train_regressor(Regression(pairs_of(broken), pairs_of(broken, seed=1), broken), SMALL, tmp_path)
