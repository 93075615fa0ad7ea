import json

import pytest
import torch
from regressor_pairs import pairs_of
from torch import nn

from invkit.errors import ArtifactError, DenoiserError, UsageError
from invkit.regressor.regress import Regression, RegressorTask, squared_error, train_regressor
from invkit.regressor.regressor import Regressor, RegressorConfig
from invkit.training.engine import FitConfig, Shard, fit
from invkit.training.precision import precision_of_training, train_in
from invkit.training.seeds import generator

SMALL = RegressorConfig(
    hidden=8, most_channels=6, flat_channels=2, flat_grid=4, stages=0, batch=4, patch=24, bf16=False
)


@pytest.mark.parametrize(
    ("shapes", "size", "stride"),
    [
        ([(1, 24, 24)], (24, 24), 1),
        ([(70, 24, 20)], (24, 20), 1),
        ([(5, 12, 10)], (24, 20), 2),
        ([(5, 11, 9)], (24, 20), None),
        ([(5, 3, 3), (2, 12, 12)], (24, 24), 2),
        ([(17,)], (24, 24), 6),
        ([(17,)], (23, 20), None),
        ([(4, 7)], (24, 24), 6),
        ([(9,), (3, 24, 24)], (24, 24), 1),
        ([(30, 1, 1)], (24, 24), 6),
    ],
)
def test_any_shape_becomes_an_image(shapes, size, stride):
    z = tuple(torch.randn(3, *shape) for shape in shapes)
    example = z[0] if len(z) == 1 else z
    regressor = Regressor(example, size, SMALL)
    assert regressor.stride == stride
    assert regressor(example).shape == (3, 1, *size)
    x = torch.randn(3, 1, *size) * 200
    regressor.calibrate([(example, x)])
    assert regressor(example).isfinite().all()
    tensors, meta = regressor.state()
    again = Regressor.from_state(tensors, json.loads(json.dumps(meta)))
    assert torch.equal(again(example), regressor(example))


def test_spatial_activations_of_other_sizes():
    regressor = Regressor(torch.zeros(1, 3, 12, 12), (24, 24), SMALL)
    assert regressor(torch.zeros(2, 3, 20, 16)).shape == (2, 1, 40, 32)
    resized = Regressor(torch.zeros(1, 3, 11, 11), (24, 24), SMALL)
    assert resized(torch.zeros(2, 3, 20, 20), (40, 40)).shape == (2, 1, 40, 40)
    with pytest.raises(UsageError, match="pass size"):
        resized(torch.zeros(2, 3, 20, 20))


@pytest.mark.parametrize(
    "z", [torch.zeros(1, 4, 12, 12), (torch.zeros(1, 3, 12, 12),) * 2, torch.zeros(1, 3)]
)
def test_other_activations_are_refused(z):
    regressor = Regressor(torch.zeros(1, 3, 12, 12), (24, 24), SMALL)
    with pytest.raises(UsageError, match="build one for each layer"):
        regressor(z)


def test_wrong_size_and_empty_activation_are_refused():
    with pytest.raises(UsageError, match="2 times"):
        Regressor(torch.zeros(1, 3, 12, 12), (24, 24), SMALL)(torch.zeros(1, 3, 12, 12), (25, 24))
    with pytest.raises(DenoiserError, match="no numbers"):
        Regressor(torch.zeros(1, 0), (24, 24), SMALL)


def test_standardisation_is_measured():
    z = torch.randn(50, 3, 8, 8, generator=generator(0)) * torch.tensor([1.0, 5, 0])[:, None, None] + 7
    regressor = Regressor(z, (8, 8), SMALL)
    regressor.calibrate([(z[:25], torch.zeros(25, 1, 8, 8)), (z[25:], torch.zeros(25, 1, 8, 8))])
    h = regressor.features(z)
    torch.testing.assert_close(h.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(h.std((0, 2, 3)), torch.tensor([1.0, 1.0, 0.0]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("stride", [1, 2])
def test_calibration_inverts_what_is_linear_and_invertible(stride):
    """z = all pixels of a block, mixed by an orthogonal matrix: the best linear map is exact."""
    mix = torch.linalg.qr(torch.randn(4, 4, generator=generator(1))).Q

    def phi(x):
        if stride == 1:
            return 3 * x + 20
        return torch.einsum("ij,bjhw->bihw", mix, nn.functional.pixel_unshuffle(x, 2))

    pairs = pairs_of(phi)
    z, x = pairs(0, Shard(0, 1))
    regressor = Regressor(z, (24, 24), SMALL)
    regressor.calibrate([pairs(step, Shard(0, 1)) for step in range(6)])
    z, x = pairs(9, Shard(0, 1))
    assert (regressor(z) - x)[..., 4:-4, 4:-4].square().mean().sqrt() < 2.0


def test_constant_activation_gives_the_mean_image():
    pairs = pairs_of(torch.zeros_like)
    regressor = Regressor(pairs(0, Shard(0, 1))[0], (24, 24), SMALL)
    examples = [pairs(step, Shard(0, 1)) for step in range(3)]
    regressor.calibrate(examples)
    mean = torch.cat([x for _, x in examples]).mean()
    torch.testing.assert_close(regressor(examples[0][0]).mean(), mean, atol=1.0, rtol=0)


def test_learns_the_identity_on_input(tmp_path):
    pairs = pairs_of(lambda x: x.clone())
    config = SMALL.model_copy(update={"steps": 60})
    found = train_regressor(
        Regression(pairs, pairs_of(lambda x: x.clone(), seed=1), torch.clone),
        config,
        tmp_path,
        identity="input",
    )
    assert found.metrics["rmse_hu"] < 3.0
    assert not found.regressor.training


def test_learns_more_than_the_linear_part(tmp_path):
    """z = (relu(x), relu(-x)) squashed: only a nonlinear map recovers x."""

    def phi(x):
        return torch.cat([(x / 100).tanh(), (x / 400).tanh() ** 2], dim=1)

    config = SMALL.model_copy(update={"steps": 120, "hidden": 12})
    pairs = pairs_of(phi)
    regressor = Regressor(pairs(0, Shard(0, 1))[0], (24, 24), config)
    task = RegressorTask(regressor, pairs, pairs_of(phi, seed=1))
    before = task.evaluate(0)["rmse_hu"]
    fit(task, FitConfig(steps=config.steps, evaluate_every=config.steps, clip_norm=1.0), tmp_path)
    assert task.evaluate(config.steps)["rmse_hu"] < 0.7 * before


def filtered(x):
    """What eight rectified 3 x 3 filters say of images, continued by zeros as networks do."""
    filters = torch.randn(8, 1, 3, 3, generator=generator(2)) / 300
    return nn.functional.conv2d(x, filters, padding=1).relu()


def test_pixels_at_the_edge_are_estimated_too(tmp_path):
    pairs, others = pairs_of(filtered), pairs_of(filtered, seed=1)
    config = SMALL.model_copy(update={"steps": 60, "calibration": 8})
    regressor = train_regressor(Regression(pairs, others, filtered), config, tmp_path).regressor
    z, x = others(3, Shard(0, 1))
    error = (regressor(z) - x).square()
    inside = error[..., 2:-2, 2:-2]
    edge = (error.sum() - inside.sum()) / (error.numel() - inside.numel())
    assert edge < 9 * inside.mean() < 9 * 30.0**2


def test_the_linear_part_is_solved_and_stays(tmp_path):
    pairs = pairs_of(filtered)
    regressor = Regressor(pairs(0, Shard(0, 1))[0], (24, 24), SMALL)
    task = RegressorTask(regressor, pairs, pairs)
    solved, net = regressor.skip.weight.clone(), regressor.net[0].weight.clone()
    fit(task, FitConfig(steps=3, evaluate_every=3, clip_norm=1.0), tmp_path)
    assert torch.equal(regressor.skip.weight, solved)
    assert not torch.equal(regressor.net[0].weight, net)


def test_many_channels_are_reduced_to_those_that_vary_most():
    mixed = torch.randn(12, 3, generator=generator(3)) @ torch.randn(3, 400, generator=generator(4))
    z = (mixed + 1e-3 * torch.randn(12, 400, generator=generator(5))).reshape(12, 4, 10, 10).transpose(0, 1)
    regressor = Regressor(z, (10, 10), SMALL.model_copy(update={"most_channels": 3}))
    regressor.calibrate([(z, torch.zeros(4, 1, 10, 10))])
    whole = regressor._standard(z, None).transpose(0, 1).flatten(1)
    components = regressor.reduce.weight[..., 0, 0]
    torch.testing.assert_close(components @ components.T, torch.eye(3), atol=1e-5, rtol=0)
    wanted = torch.linalg.svd(whole).U[:, :3]
    torch.testing.assert_close(components.T @ components, wanted @ wanted.T, atol=1e-4, rtol=0)
    assert regressor.features(z).shape == (4, 3, 10, 10)


def test_loss_is_pure():
    pairs = pairs_of(filtered)
    task = RegressorTask(Regressor(pairs(0, Shard(0, 1))[0], (24, 24), SMALL), pairs, pairs)
    first, second = (task.loss("main", 5, Shard(0, 1))[0] for _ in range(2))
    assert torch.equal(first, second)
    halves = [task.loss("main", 5, Shard(rank, 2))[0] for rank in (0, 1)]
    torch.testing.assert_close(torch.stack(halves).mean(), first)
    # Four patches cannot be shared by three.
    assert all(torch.equal(task.loss("main", 5, Shard(rank, 3))[0], first) for rank in range(3))


def test_the_unit_of_the_loss_is_the_error_of_the_linear_part():
    pairs = pairs_of(filtered)
    task = RegressorTask(Regressor(pairs(0, Shard(0, 1))[0], (24, 24), SMALL), pairs, pairs)
    errors = [
        squared_error(task.regressor(z), x).mean() for z, x in (pairs(k, Shard(0, 1)) for k in range(8))
    ]
    assert task.unit == pytest.approx(torch.stack(errors).mean().sqrt().item())
    loss, figures = task.loss("main", 2, Shard(0, 1))
    torch.testing.assert_close(loss, errors[2] / task.unit / SMALL.hu_scale)
    torch.testing.assert_close(figures["rmse_hu"], errors[2].sqrt())
    exact = pairs_of(torch.clone)
    task = RegressorTask(Regressor(exact(0, Shard(0, 1))[0], (24, 24), SMALL), exact, exact)
    assert task.loss("main", 0, Shard(0, 1))[0].isfinite()


def test_judges_are_asked_at_each_look_and_the_best_state_is_kept(tmp_path):
    config = SMALL.model_copy(update={"steps": 16, "lr": 0.05, "clip_norm": 1e3})
    asked = []

    def judge(regressor, stages):
        assert stages == 0
        asked.append(regressor)
        return {"looks": float(len(asked))}

    pairs, others = pairs_of(filtered), pairs_of(filtered, seed=1)
    start = Regressor(pairs(0, Shard(0, 1))[0], (24, 24), config)
    before = RegressorTask(start, pairs, others).evaluate(0)["rmse_hu"]
    found = train_regressor(Regression(pairs, others, filtered, judge), config, tmp_path)
    figures = found.metrics
    looks = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    looks = {line["step"]: line["evaluation"] for line in looks if "evaluation" in line}
    assert list(looks) == [0, 4, 8, 12, 16]
    # Before, the descent of no stages was judged, too.
    assert [look["looks"] for look in looks.values()] == [2, 3, 4, 5, 6]
    # At this rate steps spoil the solved start.
    assert figures == min(looks.values(), key=lambda look: look["rmse_hu"])
    assert looks[0]["rmse_hu"] == before < max(look["rmse_hu"] for look in looks.values())
    batches = (others(k, Shard(0, 1)) for k in range(32))
    errors = [squared_error(found.regressor(z), x).mean() for z, x in batches]
    assert found.learning["rmse_hu"] == [(step, look["rmse_hu"]) for step, look in looks.items()]
    assert figures["rmse_hu"] == pytest.approx(torch.stack(errors).mean().sqrt().item())


def test_training_is_doubled_until_that_gains_little(tmp_path):
    config = SMALL.model_copy(update={"steps": 8, "doublings": 3})
    pairs = pairs_of(filtered)
    task = RegressorTask(Regressor(pairs(0, Shard(0, 1))[0], (24, 24), config), pairs, pairs)
    looks = [(0, 50.0), (4, 30.0), (8, 20.0)]
    assert not task.enough(looks)
    assert not task.enough([*looks, (12, 20.0)])  # between the ends of doublings
    assert not task.enough([*looks, (16, 18.9)])
    assert task.enough([*looks, (16, 19.1)])
    assert task.enough([*looks, (12, 25.0), (16, 22.0)])  # the best so far counts
    assert task.enough([(0, 2.0), (4, 1.2), (8, 0.71)])  # less than half an HU is not worth as much again
    assert not task.enough([(0, 2.0), (4, 1.2), (8, 0.69)])
    # Without a rate nothing is gained, so the first doubling is the last.
    still = config.model_copy(update={"lr": 1e-12})
    train_regressor(Regression(pairs, pairs, filtered), still, tmp_path)
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 8
    assert "doublings" not in RegressorConfig().model_dump(mode="json")
    assert RegressorConfig.model_validate(config.model_dump(mode="json")) == config


def test_the_network_is_trained_in_the_precision_of_the_training_and_used_in_float32():
    pairs = pairs_of(filtered)
    z, _ = pairs(0, Shard(0, 1))
    regressor = Regressor(z, (24, 24), SMALL)
    regressor.calibrate([pairs(0, Shard(0, 1))])
    nn.init.normal_(regressor.net[-1].weight, std=0.02, generator=generator(6))
    exact = regressor(z)
    with precision_of_training():
        train_in("bfloat16")
        trained, used = regressor.train()(z), regressor.eval()(z)
    assert torch.equal(used, exact)
    nn.init.zeros_(regressor.net[-1].weight)
    part = exact - regressor(z)
    assert 0 < (trained - exact).abs().max() < 0.02 * part.abs().max()


def test_state_that_does_not_fit_is_refused():
    tensors, meta = Regressor(torch.zeros(1, 3, 12, 12), (24, 24), SMALL).state()
    with pytest.raises(ArtifactError, match="cannot be read"):
        Regressor.from_state(tensors, {**meta, "shapes": [[4, 12, 12]]})
    with pytest.raises(ArtifactError, match="cannot be read"):
        Regressor.from_state(tensors, {**meta, "config": {"depth": 3}})
    tensors["skip.bias"] = torch.full_like(tensors["skip.bias"], torch.nan)
    with pytest.raises(ArtifactError, match="not finite"):
        Regressor.from_state(tensors, meta)
