"""Training a denoiser: losses against direct computation, batches, phases."""

import pytest
import torch
from small_tasks import FULL, MSE, PREPROCESSING, WGAN, WHOLE, Pairs, Squares, network, pair, task

from invkit.denoisers.task import DenoiserTask
from invkit.errors import ConfigError, UsageError
from invkit.training.engine import Shard
from invkit.training.feed import Feed
from invkit.training.precision import precision_of_training, train_in


def test_phases_are_the_denoiser_alone_then_critic_steps_first():
    assert task(MSE).phases(0) == ("denoiser",)
    wgan = task(WGAN)
    assert [tuple(wgan.phases(step)) for step in range(4)] == [
        ("denoiser",),
        ("denoiser",),
        ("critic", "critic", "critic", "denoiser"),
        ("critic", "critic", "critic", "denoiser"),
    ]


@pytest.mark.parametrize("critic_steps", [None, 1, 3])
def test_the_batch_said_to_follow_is_the_one_that_is_asked_for_next(critic_steps, monkeypatch):
    asked, batch = [], Feed.batch

    def noted(feed, key, *, following=None):
        asked.append((key, following))
        return batch(feed, key, following=following)

    monkeypatch.setattr(Feed, "batch", noted)
    recipe = MSE
    if critic_steps is not None:
        recipe = WGAN.changed({"adversarial": {"critic_steps": critic_steps}})
    subject = task(recipe)
    for step in range(5):
        for phase in subject.phases(step):
            subject.loss(phase, step, WHOLE)
    keys, following = zip(*asked, strict=True)
    assert keys[1:] == following[:-1]


def test_modules_and_optimisers_hold_everything_that_is_trained():
    plain, wgan = task(MSE), task(FULL)
    assert plain.modules.keys() == plain.optimizers.keys() == {"denoiser"}
    assert wgan.modules.keys() == wgan.optimizers.keys() == {"denoiser", "critic"}
    for made in (plain, wgan):
        for phase, optimizer in made.optimizers.items():
            trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
            assert trained == {id(p) for p in made.modules[phase].parameters()}
            assert all(group["betas"] == (0.9, 0.999) for group in optimizer.param_groups)


def test_rates_are_a_cosine_for_the_denoiser_and_constant_for_the_critic():
    wgan = task(WGAN)
    assert wgan.learning_rate("denoiser", 0) == pytest.approx(1e-3)
    assert wgan.learning_rate("denoiser", 19) == pytest.approx(1e-4)
    rates = [wgan.learning_rate("denoiser", step) for step in range(20)]
    assert rates == sorted(rates, reverse=True)
    assert {wgan.learning_rate("critic", step) for step in range(20)} == {2e-3}
    flat = task(MSE.changed({"lr_end": 1.0}))
    assert {flat.learning_rate("denoiser", step) for step in range(20)} == {1e-3}


def test_the_plain_loss_is_the_mean_squared_error_in_network_units():
    net = network()
    loss, figures = task(MSE.changed({"mse": 0.5}), net=net).loss("denoiser", 4, WHOLE)
    x, y = pair(4)
    expected = (net(x) - y).square().mean()
    torch.testing.assert_close(loss, 0.5 * expected)
    torch.testing.assert_close(figures["mse"], expected.detach())


def test_the_start_is_mean_squared_error_with_factor_one_whatever_the_recipe_says():
    net = network()
    made = task(FULL.changed({"mse": 0.0}), net=net)
    made.phases(1)
    loss, figures = made.loss("denoiser", 1, WHOLE)
    x, y = pair(1 * 3)
    torch.testing.assert_close(loss, (net(x) - y).square().mean())
    assert figures.keys() == {"mse"}
    assert made.loss("denoiser", 2, WHOLE)[1].keys() == {"mse", "score", "perceptual"}


def test_the_denoiser_descends_on_all_its_terms():
    net = network()
    made = task(FULL, net=net)
    made.phases(5)
    loss, figures = made.loss("denoiser", 5, WHOLE)
    x, y = pair(5 * 3)
    out = net(x)
    mse, score = (out - y).square().mean(), made.critic(out).mean()
    features = ((out * 400 - 500) / 1000).square() - ((y * 400 - 500) / 1000).square()
    perceptual = features.square().mean()
    torch.testing.assert_close(loss, 0.25 * mse - 0.5 * score + 0.3 * perceptual)
    torch.testing.assert_close(figures["score"], score.detach())
    torch.testing.assert_close(figures["perceptual"], perceptual.detach())


def test_the_critic_ascends_on_the_distance_of_full_dose_and_denoised():
    net = network()
    made = task(WGAN, net=net)
    made.phases(5)
    loss, figures = made.loss("critic", 5, WHOLE)
    x, y = pair(5 * 3)
    weight = made.critic[1].weight.detach()
    distance = made.critic(y).mean() - made.critic(net(x)).mean()
    penalty = (weight.norm() - 1).square()
    torch.testing.assert_close(loss, -distance + 10 * penalty)
    torch.testing.assert_close(figures["wasserstein"], distance.detach())
    torch.testing.assert_close(figures["penalty"], penalty)
    loss.backward()
    assert all(parameter.grad is None for parameter in net.parameters())


def run(made: DenoiserTask, step: int):
    """Return losses and gradients of all phases of a step, without stepping."""
    results = []
    for phase in made.phases(step):
        made.optimizers[phase].zero_grad()
        loss, figures = made.loss(phase, step, WHOLE)
        loss.backward(inputs=list(made.modules[phase].parameters()))
        gradients = [p.grad.clone() for p in made.modules[phase].parameters()]
        results.append((loss.detach(), gradients, {name: float(v) for name, v in figures.items()}))
    return results


@pytest.fixture(params=["float32", "bfloat16"])
def precision(request):
    """The precision of a training, settled."""
    with precision_of_training():
        train_in(request.param)
        yield request.param


@pytest.mark.usefixtures("precision")
def test_losses_depend_on_parameters_seed_and_step_alone():
    first, second = task(FULL), task(FULL)
    before = run(first, 7)
    # Gone back to a checkpoint, the same step comes again.
    again = run(first, 7)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(before, again, strict=True))
    run(first, 8)
    torch.rand(5)
    # A step that was broken off in its middle leaves nothing behind.
    first.phases(3)
    first.loss("critic", 3, WHOLE)
    second.loss("critic", 9, WHOLE)
    for after in (run(first, 7), run(second, 7)):
        for (loss, gradients, figures), (again, gradients_again, figures_again) in zip(
            before, after, strict=True
        ):
            assert torch.equal(loss, again)
            assert figures == figures_again
            assert all(torch.equal(a, b) for a, b in zip(gradients, gradients_again, strict=True))
    assert not torch.equal(run(first, 8)[0][0], before[0][0])
    assert run(task(FULL, seed=4), 7)[0][2] != before[0][2]


def test_the_critic_starts_from_the_seed_and_not_from_the_global_state():
    torch.manual_seed(1)
    first = task(WGAN).critic
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    second = task(WGAN).critic
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other = task(WGAN, seed=4).critic
    assert not torch.equal(first[1].weight, other[1].weight)


def test_every_critic_step_sees_fresh_pairs_and_the_denoiser_those_of_the_first():
    sampler = Pairs()
    made = task(WGAN, sampler=sampler)
    run(made, 4)
    run(made, 5)
    assert sampler.steps == [12, 13, 14, 12, 15, 16, 17, 15]
    single = Pairs()
    run(task(WGAN.changed({"adversarial": {"critic_steps": 1}}), sampler=single), 4)
    assert single.steps == [4]
    distances = [figures["wasserstein"] for _, _, figures in run(made, 4)[:3]]
    assert len(set(distances)) == 3


def test_shards_together_are_the_batch():
    made = task(MSE)
    whole = made.loss("denoiser", 2, WHOLE)[0]
    halves = [made.loss("denoiser", 2, Shard(rank, 2))[0] for rank in range(2)]
    assert not torch.equal(halves[0], halves[1])
    torch.testing.assert_close(sum(halves) / 2, whole)
    with pytest.raises(ConfigError, match="evenly"):
        made.loss("denoiser", 2, Shard(0, 3))


def test_the_backbone_is_at_rest_and_not_trained():
    backbone = Squares().train()
    made = task(FULL, backbone=backbone)
    assert not backbone.training
    run(made, 5)
    assert backbone.factor.grad is None
    with pytest.raises(UsageError, match="'squares'"):
        DenoiserTask(network(), PREPROCESSING, FULL, Pairs(), Pairs(1), seed=0)


@pytest.mark.parametrize("clean", [True, False])
def test_evaluation_is_root_mean_square_error_in_hu(clean):
    held_out = Pairs(1, clean=clean)
    net = network()
    figures = task(MSE, net=net, held_out=held_out).evaluate(0)
    batch = held_out.batch(0, 64)
    truth = batch.clean if clean else batch.y
    out = net((batch.x + 500) / 400) * 400 - 500
    assert figures["rmse_low_dose_hu"] == pytest.approx((batch.x - truth).square().mean().sqrt().item())
    assert figures["rmse_denoised_hu"] == pytest.approx((out - truth).square().mean().sqrt().item(), rel=1e-5)
