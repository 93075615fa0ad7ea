"""The fiber term: its gradient against finite differences, nothing changed at weight 0, and samples nearer to their fiber."""

import pytest
import torch

from invkit.errors import UsageError
from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.flow.fiber import FiberTerm
from invkit.flow.table import CodeTable
from invkit.flow.train import CinnTask, fit_config
from invkit.training.engine import Shard, fit
from invkit.training.seeds import generator

WHOLE = Shard(0, 1)
D, SEEN = 6, 3


def config(weight, **changes):
    small = {
        "d": D,
        "blocks": 2,
        "hidden": 12,
        "context": 4,
        "embedder_hidden": 8,
        "batch": 8,
        "steps": 60,
        "lr": 5e-3,
    }
    return CinnConfig(**small, evaluate_every=30, warmup=0, fiber_weight=weight, fiber_rows=4, **changes)


def table(n, seed, dtype=torch.float32):
    codes = torch.randn(n, D, generator=generator(seed, "codes")).to(dtype)
    return CodeTable(codes, torch.full_like(codes, -2.0), codes[:, :SEEN].sin())


def seen(rows):
    """What a layer sees of codes: a smooth map, as Phi of D is."""

    def errors(codes, chosen):
        z = rows.mean[list(chosen), :SEEN].to(codes)
        return (codes[:, :SEEN] - z).square().mean(1).sqrt()

    return errors


def task(weight, dtype=torch.float32, given=True):
    train, held_out = table(64, 1, dtype), table(32, 2, dtype)
    term = FiberTerm(seen(train), seen(held_out), rows=4, seed=7) if given else None
    return CinnTask(CINN(config(weight), (SEEN,)).to(dtype), train, held_out, seed=0, fiber=term)


def test_its_gradient_is_that_of_finite_differences():
    both, nll_only = task(3.0, torch.float64), task(0.0, torch.float64)
    parameters = [p for p in both.cinn.parameters() if p.requires_grad]
    random = generator(0, "direction")
    direction = [torch.randn(p.shape, generator=random, dtype=torch.float64) for p in parameters]

    def value(which, t):
        own = [p for p in which.cinn.parameters() if p.requires_grad]
        with torch.no_grad():
            for p, d in zip(own, direction, strict=True):
                p.add_(t * d)
            found = float(which.loss("main", 5, WHOLE)[0])
            for p, d in zip(own, direction, strict=True):
                p.sub_(t * d)
        return found

    loss, figures = both.loss("main", 5, WHOLE)
    slope = sum((g * d).sum() for g, d in zip(torch.autograd.grad(loss, parameters), direction, strict=True))
    h = 1e-6
    measured = (value(both, h) - value(both, -h)) / (2 * h)
    assert float(slope) == pytest.approx(measured, rel=1e-5)
    assert abs(measured - (value(nll_only, h) - value(nll_only, -h)) / (2 * h)) > 1e-3 * abs(measured)
    assert loss.item() == pytest.approx(float(figures["nll_train"] + 3.0 * figures["fiber_train"]))


def test_at_weight_0_everything_is_as_without_it():
    plain, weightless = task(0.0, given=False), task(0.0)
    losses = [one.loss("main", 3, WHOLE)[0] for one in (plain, weightless)]
    assert torch.equal(*losses)
    gradients = [
        torch.autograd.grad(loss, list(one.cinn.parameters()))
        for loss, one in zip(losses, (plain, weightless), strict=True)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert plain.identity == weightless.identity
    assert plain.monitor == weightless.monitor == "nll"
    assert plain.evaluate(0) == weightless.evaluate(0)
    assert not {"fiber_weight", "fiber_rows"} & CinnConfig().model_dump(mode="json").keys()
    stated = config(1.0).model_dump(mode="json")
    assert (stated["fiber_weight"], stated["fiber_rows"]) == (1.0, 4)
    assert CinnConfig.model_validate(stated) == config(1.0)
    assert task(1.0).identity != plain.identity


@pytest.mark.parametrize("world", [2, 4, 8])
def test_the_mean_over_processes_is_the_whole(world):
    whole = task(2.0)
    error = whole.loss("main", 1, WHOLE)[1]["fiber_train"]
    parts = [task(2.0).loss("main", 1, Shard(rank, world))[1]["fiber_train"] for rank in range(world)]
    assert float(torch.stack(parts).mean()) == pytest.approx(float(error), rel=1e-5)


def test_samples_of_a_flow_trained_with_it_lie_nearer(tmp_path):
    found = {}
    for weight in (0.0, 10.0):
        trained = task(weight)
        fit(trained, fit_config(trained.config), tmp_path / str(weight))
        held_out = trained.held_out
        v = torch.randn(len(held_out), D, generator=generator(11, "v"))
        with torch.no_grad():
            codes = trained.cinn.sample(held_out.condition, v)
        found[weight] = float(seen(held_out)(codes, range(len(held_out))).mean())
    assert found[10.0] < 0.95 * found[0.0]


def test_a_weight_without_a_term_is_refused():
    with pytest.raises(UsageError, match="needs a fiber term"):
        task(1.0, given=False)
