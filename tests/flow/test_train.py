"""Training: the closed-form truth of a linear-Gaussian problem (E5), purity of the loss, divergence."""

import math

import pytest
import torch

from invkit.errors import DataError, DivergedError
from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.flow.regression import fit_start
from invkit.flow.table import CodeTable, gaussian_nll, posterior_entropy
from invkit.flow.train import CinnTask, fit_config, nll_rows, train_cinn
from invkit.training.engine import Shard, fit
from invkit.training.seeds import derive_seed, generator

WHOLE = Shard(0, 1)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed, "test"))


class LinearGaussian:
    """x ~ N(0, C) with a low-pass spectrum, z = A x, z_bar = x + noise: p(z_bar | z) in closed form."""

    def __init__(self, d, rank, log_var=-4.0):
        basis = torch.linalg.qr(randn(d, d, seed=1).double())[0]
        variance = torch.linspace(1.0, 0.0, d, dtype=torch.float64).mul(3.0).exp() / 4.0
        self.d, self.log_var = d, log_var
        self.root = basis * variance.sqrt()
        covariance = self.root @ self.root.T
        self.forward = randn(rank, d, seed=2).double() / math.sqrt(d)
        gain = covariance @ self.forward.T @ torch.linalg.inv(self.forward @ covariance @ self.forward.T)
        self.gain = gain
        left = covariance - gain @ self.forward @ covariance
        self.conditional = 0.5 * (left + left.T) + math.exp(log_var) * torch.eye(d, dtype=torch.float64)

    def table(self, n, seed):
        x = randn(n, self.d, seed=seed).double() @ self.root.T
        log_var = torch.full((n, self.d), self.log_var)
        return CodeTable(x.float(), log_var, (x @ self.forward.T).float())

    def nll_rows(self, table, seed):
        """The exact NLL of the posterior samples that `invkit.flow.train.nll_rows` takes."""
        z_bar = table.sample(generator(seed, "held-out posterior", 0)).double()
        mean = table.condition.double() @ self.gain.T
        truth = torch.distributions.MultivariateNormal(mean, self.conditional)
        return -truth.log_prob(z_bar) / self.d

    def angle_cosines(self, samples, leading):
        """Cosines of the principal angles between the leading eigenvectors of samples and truth."""
        found = torch.linalg.eigh(torch.cov(samples.double().T))[1][:, -leading:]
        truth = torch.linalg.eigh(self.conditional)[1][:, -leading:]
        return torch.linalg.svdvals(found.T @ truth)


def check_linear_gaussian(problem, config, rows, rank, folder):
    train, held_out = problem.table(rows, 3), problem.table(1024, 4)
    cinn = CINN(config, train.condition_shape)
    result = train_cinn(cinn, train, held_out, folder, seed=5)
    truth = problem.nll_rows(held_out, 5)
    gap = float((nll_rows(cinn, held_out, 5) - truth).mean())
    assert result.metrics["nll"] == pytest.approx(float(nll_rows(cinn, held_out, 5).mean()), abs=1e-6)
    assert result.metrics["nll"] <= result.start["nll"]
    assert -0.01 < gap <= 0.02
    with torch.no_grad():
        samples = cinn.sample(held_out.condition[:1], randn(8192, 1, problem.d, seed=6))[:, 0]
    leading = (problem.d - rank) // 2
    assert float(problem.angle_cosines(samples, leading).mean()) >= 0.95


def test_training_reaches_the_linear_gaussian_truth(tmp_path):
    """E5 at 16 dimensions: gap of at most 0.02 nats/dim, principal angles of mean cosine 0.95."""
    config = CinnConfig(
        d=16, blocks=3, hidden=32, context=8, embedder_hidden=32, steps=200, batch=128, evaluate_every=50
    )
    check_linear_gaussian(LinearGaussian(16, 8), config, 4096, 8, tmp_path)


@pytest.mark.slow
def test_training_reaches_the_linear_gaussian_truth_at_full_size(tmp_path):
    """E5 at 256 dimensions with the default network and 12,000 rows."""
    config = CinnConfig(steps=400, evaluate_every=100)
    check_linear_gaussian(LinearGaussian(256, 128), config, 12_000, 128, tmp_path)


def test_the_start_alone_is_the_truth_where_everything_is_linear():
    problem = LinearGaussian(8, 4)
    held_out = problem.table(2048, 4)
    cinn = CINN(CinnConfig(d=8, blocks=2, hidden=8, context=4, embedder_hidden=8), held_out.condition_shape)
    cinn.initialise(problem.table(20_000, 3))
    gap = float((nll_rows(cinn, held_out, 0) - problem.nll_rows(held_out, 0)).mean())
    assert abs(gap) < 0.003


def test_the_start_finds_a_log_linear_variance():
    """z_bar ~ N(c B, exp(c G)): mean and variance both follow the condition; the exact NLL is known."""
    d, n = 6, 12_000
    mean_of, scale_of = randn(d, d, seed=1), 0.3 * randn(d, d, seed=2) / math.sqrt(d)

    def rows(count, seed):
        c = randn(count, d, seed=seed)
        deviation = (c @ scale_of).exp()
        return CodeTable(
            c @ mean_of + deviation * randn(count, d, seed=seed + 1), torch.full((count, d), -9.0), c
        )

    held_out = rows(4096, 20)
    cinn = CINN(CinnConfig(d=d, blocks=1, hidden=8, context=4, embedder_hidden=8), (d,))
    cinn.initialise(rows(n, 10))
    normal = torch.distributions.Normal(held_out.condition @ mean_of, (held_out.condition @ scale_of).exp())
    z_bar = held_out.sample(generator(0, "held-out posterior", 0))
    gap = nll_rows(cinn, held_out, 0) + normal.log_prob(z_bar).mean(1)
    assert abs(float(gap.mean())) < 0.005


def test_features_that_say_nothing_are_shrunk_away():
    """As many useless features as a tenth of the rows: ridge keeps the loss near that of the mean alone."""
    features, mean = randn(1000, 100, seed=1), randn(1000, 3, seed=2)
    start = fit_start(features, mean, torch.full((1000, 3), -4.0))
    fresh = randn(4000, 100, seed=3).double() @ start.mean_weight.T
    assert float(fresh.square().mean()) < 0.02
    assert float(start.inflation.max()) < 1.02


def test_a_constant_condition_gives_the_ceiling():
    """The control z = const runs through the same code: it ends at the entropy of the codes."""
    d = 8
    mean = randn(6000, d, seed=1) @ randn(d, d, seed=2)
    train = CodeTable(mean, torch.full((6000, d), -3.0), torch.zeros(6000, 2, d))
    cinn = CINN(CinnConfig(d=d, blocks=1, hidden=8, context=4, embedder_hidden=8), (2, d))
    cinn.initialise(train)
    covariance = torch.cov(mean.T) + math.exp(-3.0) * torch.eye(d)
    entropy = float(torch.distributions.MultivariateNormal(torch.zeros(d), covariance).entropy()) / d
    assert float(nll_rows(cinn, train, 0).mean()) == pytest.approx(entropy, abs=0.01)


def test_a_condition_that_fixes_the_code_reaches_the_posterior_floor():
    train = CodeTable(randn(4096, 8, seed=1), -3.0 + randn(4096, 8, seed=2), randn(4096, 8, seed=1))
    exact = CodeTable(train.mean, train.log_var, torch.stack([train.mean, train.log_var], 1))
    cinn = CINN(CinnConfig(d=8, blocks=1, hidden=8, context=4, embedder_hidden=8), (2, 8))
    cinn.initialise(exact)
    assert float(nll_rows(cinn, exact, 0).mean()) == pytest.approx(posterior_entropy(exact), abs=0.02)


@pytest.fixture
def task():
    problem = LinearGaussian(8, 4)
    config = CinnConfig(
        d=8, blocks=2, hidden=12, context=4, embedder_hidden=8, batch=12, steps=6, evaluate_every=3, warmup=0
    )
    train = problem.table(50, 3)
    return CinnTask(CINN(config, train.condition_shape), train, problem.table(20, 4), seed=1)


def test_the_loss_is_a_function_of_the_step(task):
    first = [float(task.loss("main", step, WHOLE)[0].detach()) for step in (7, 3, 7)]
    assert first[0] == first[2]
    assert first[0] != first[1]


def test_shards_make_up_the_batch(task):
    parts = [task.loss("main", 4, Shard(rank, 3))[0] for rank in range(3)]
    torch.testing.assert_close(torch.stack(parts).mean(), task.loss("main", 4, WHOLE)[0])


def test_an_epoch_visits_every_row_once(task):
    rows = torch.cat([task.batch_rows(step) for step in range(25)])
    for epoch in torch.split(rows, 50):
        assert sorted(epoch.tolist()) == list(range(50))
    assert not torch.equal(rows[:50], rows[50:100])


def test_all_layers_are_judged_on_the_same_codes(task):
    """The posterior samples depend on seed and rows, not on the condition, the flow or its mode."""
    seen = []
    task.cinn.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    first = nll_rows(task.cinn.train(), task.held_out, 9)
    assert task.cinn.training
    other = CodeTable(task.held_out.mean, task.held_out.log_var, 2.0 * task.held_out.condition)
    nll_rows(task.cinn.eval(), other, 9)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(first, nll_rows(task.cinn, task.held_out, 9))
    assert not torch.equal(first, nll_rows(task.cinn, task.held_out, 10))


def test_what_has_a_closed_form_start_moves_at_a_tenth_of_the_rate(task):
    """Adam's first step is the rate itself for every parameter that has a gradient."""
    optimiser = task.optimizers["main"]
    for group in optimiser.param_groups:
        group["lr"] = 0.01
    cinn = task.cinn
    watched = {"solved": cinn.embedder.readout.weight, "learnt": cinn.embedder.out.weight}
    before = {name: parameter.detach().clone() for name, parameter in watched.items()}
    task.loss("main", 0, WHOLE)[0].backward()
    optimiser.step()
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in watched.items()}
    assert moved["solved"] == pytest.approx(0.001, rel=0.02)
    assert moved["learnt"] == pytest.approx(0.01, rel=0.02)
    assert [group["lr"] for group in optimiser.param_groups] == [0.01, 0.01]


def test_a_flow_that_has_a_start_keeps_it(task):
    state = {name: tensor.clone() for name, tensor in task.cinn.state_dict().items()}
    CinnTask(task.cinn, LinearGaussian(8, 4).table(99, 8), task.held_out, seed=derive_seed(1, "other"))
    assert all(torch.equal(tensor, state[name]) for name, tensor in task.cinn.state_dict().items())


def test_gaussian_nll_is_that_of_the_best_normal_distribution():
    truth, guess = randn(4000, 3, seed=1).double(), randn(4000, 3, seed=2).double()
    log_var = torch.tensor([-2.0, -1.0, 0.5]).double().expand(4000, 3)
    samples = truth + (0.5 * log_var).exp() * randn(4000, 3, seed=3).double()
    found = gaussian_nll(truth, log_var, guess)
    deviation = (samples - guess).square().mean(0).sqrt()
    fitted = -torch.distributions.Normal(guess, deviation).log_prob(samples).mean()
    assert found == pytest.approx(float(fitted), abs=0.02)
    exact = 0.5 * (math.log(2 * math.pi * math.e) + float(log_var[0].mean()))
    assert gaussian_nll(truth, log_var, truth) == pytest.approx(exact)


def test_a_table_of_another_size_is_refused():
    rows = LinearGaussian(8, 4).table(50, 3)
    with pytest.raises(DataError, match="codes of 9 numbers, the table's have 8"):
        CINN(CinnConfig(d=9, blocks=1, hidden=4, context=2), rows.condition_shape).initialise(rows)


def test_a_training_that_does_not_help_keeps_the_start(task, tmp_path):
    cinn = task.cinn
    cinn.config = cinn.config.model_copy(update={"lr": 0.5})
    before = {name: tensor.clone() for name, tensor in cinn.state_dict().items()}
    result = train_cinn(cinn, task.train, task.held_out, tmp_path, seed=1)
    assert (result.best_step, result.metrics["nll"]) == (0, result.start["nll"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in cinn.state_dict().items())


def test_training_learns_what_no_linear_start_can(tmp_path):
    """z_bar = the square of the condition plus noise: the exact NLL is the posterior's entropy."""

    def rows(n, seed):
        c = randn(n, 2, seed=seed)
        return CodeTable(c.square() - 1.0, torch.full((n, 2), -3.0), c)

    config = CinnConfig(
        d=2,
        blocks=2,
        hidden=24,
        context=4,
        embedder_hidden=64,
        steps=400,
        batch=128,
        lr=5e-3,
        evaluate_every=100,
    )
    cinn, held_out = CINN(config, (2,)), rows(512, 2)
    result = train_cinn(cinn, rows(4096, 1), held_out, tmp_path)
    assert result.start["nll"] - result.start["nll_floor"] > 1.0
    assert result.metrics["nll"] - result.metrics["nll_floor"] < 0.15
    assert not cinn.training


def test_a_log_det_that_is_not_finite_is_a_diverged_training(task, tmp_path):
    with torch.no_grad():
        task.cinn.blocks[0].norm.log_scale[0] = torch.inf
    with pytest.raises(DivergedError):
        fit(task, fit_config(task.config), tmp_path)
