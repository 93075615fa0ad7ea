"""The whole flow: likelihood against independent libraries, sampling, start in closed form, storage."""

import json
import math

import pytest
import torch
import zuko
from pydantic import ValidationError

from invkit.errors import ArtifactError, CheckFailedError, ConfigError, DataError, UsageError
from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.flow.coupling import Block
from invkit.flow.embedder import CodeEmbedder, ConvEmbedder, MlpEmbedder, make_embedder
from invkit.flow.store import cinn_from, cinn_state, drop_idle, round_half
from invkit.flow.table import CodeTable, posterior_entropy
from invkit.parts.config import LayerConfig
from invkit.training.seeds import generator

D = 6
SMALL = CinnConfig(d=D, blocks=2, hidden=12, context=4, embedder_hidden=10)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed, "test"))


def table(n=256, seed=1):
    mean, condition = randn(n, D, seed=seed), randn(n, 2, D, seed=seed + 1)
    mean = mean + condition[:, 0]
    return CodeTable(mean, -2.0 + 0.3 * randn(n, D, seed=seed + 2), condition)


def shaken(cinn, scale=0.3):
    with torch.no_grad():
        for parameter in cinn.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator(3, "test")))
    return cinn


def test_the_start_without_data_is_a_standard_normal():
    """nll is that of torch.distributions, in nats per dimension, the constant included."""
    cinn = CINN(SMALL.model_copy(update={"affine": False}), (3,))
    z_bar = randn(5, D)
    truth = -torch.distributions.Normal(0.0, 1.0).log_prob(z_bar).mean(1)
    torch.testing.assert_close(cinn.nll(z_bar, randn(5, 3)), truth)


def test_nll_of_an_affine_flow_is_that_of_torch_and_zuko():
    """One ActNorm: v = (z_bar + shift) * exp(log_scale), so z_bar ~ N(-shift, exp(-2 log_scale))."""
    cinn = CINN(SMALL.model_copy(update={"affine": False, "blocks": 1}), (3,))
    shift, log_scale = randn(D, seed=7), 0.5 * randn(D, seed=8)
    with torch.no_grad():
        cinn.blocks[0].norm.shift.copy_(shift)
        cinn.blocks[0].norm.log_scale.copy_(log_scale)
    z_bar = randn(5, D)
    nll = cinn.nll(z_bar, randn(5, 3)).detach()
    normal = torch.distributions.Normal(-shift, (-log_scale).exp())
    torch.testing.assert_close(nll, -normal.log_prob(z_bar).mean(1))
    transform = torch.distributions.AffineTransform(shift * log_scale.exp(), log_scale.exp())
    base = zuko.distributions.DiagNormal(torch.zeros(D), torch.ones(D))
    flow = zuko.distributions.NormalizingFlow(transform, base)
    torch.testing.assert_close(nll, -flow.log_prob(z_bar) / D)


def test_the_density_of_a_random_flow_integrates_to_one():
    """Independent of any formula: the mass of p(z_bar | z) on a fine grid in two dimensions."""
    config = CinnConfig(d=2, blocks=3, hidden=8, context=3, embedder_hidden=8)
    cinn = shaken(CINN(config, (3,)).double(), 0.15)
    axis = torch.linspace(-15, 15, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    h = cinn.embed(randn(1, 3).double())
    with torch.no_grad():
        v, log_det = cinn(grid, h)
    log_p = -0.5 * v.square().sum(1) - math.log(2 * math.pi) + log_det
    assert abs(float(log_p.exp().sum()) * 0.075**2 - 1.0) < 1e-3


def test_posterior_floor():
    """E[1/2 log(2 pi e sigma^2)] is the entropy that torch.distributions gives, per dimension."""
    rows = table()
    truth = torch.distributions.Normal(rows.mean, (0.5 * rows.log_var).exp()).entropy().mean()
    assert posterior_entropy(rows) == pytest.approx(float(truth), abs=1e-6)


def test_sample_embeds_once_for_each_image():
    cinn = shaken(CINN(SMALL, (2, D)))
    condition, v = randn(3, 2, D), randn(5, 3, D)
    seen = []
    cinn.embedder.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    z_bar = cinn.sample(condition, v)
    assert seen == [3]
    assert z_bar.shape == (5, 3, D)
    repeated = cinn.inverse(v.reshape(15, D), cinn.embed(condition).repeat(5, 1))
    torch.testing.assert_close(z_bar.reshape(15, D), repeated)
    assert torch.equal(cinn.sample(condition, v.reshape(15, D)), z_bar.reshape(15, D))


def test_sample_inverts_the_flow():
    cinn = shaken(CINN(SMALL, (2, D)).double(), 0.2)
    condition, v = randn(3, 2, D).double(), randn(5, 3, D).double()
    z_bar = cinn.sample(condition, v)
    torch.testing.assert_close(cinn(z_bar, cinn.embed(condition))[0], v)


@pytest.mark.parametrize("shape", [(5, 2, D), (5, 3, D + 1), (4, D), (D,)])
def test_sample_refuses_draws_that_do_not_fit(shape):
    with pytest.raises(UsageError, match=r"3 images|must be \(N, 3"):
        CINN(SMALL, (2, D)).sample(randn(3, 2, D), torch.zeros(shape))


def test_a_condition_of_another_shape_is_refused():
    with pytest.raises(DataError, match=r"\(B, 2, 6\), got \(3, 6\)"):
        CINN(SMALL, (2, D)).embed(randn(3, D))


def test_building_a_flow_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    first, second = CINN(SMALL, (2, D)), CINN(SMALL, (2, D))
    first.initialise(table())
    assert torch.equal(torch.get_rng_state(), before)
    second.initialise(table())
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


@pytest.mark.parametrize(
    ("shape", "embedder", "kind"),
    [
        ((2, 8), "auto", CodeEmbedder),
        ((40,), "mlp", MlpEmbedder),
        ((3, 17, 20), "auto", ConvEmbedder),
        ((32, 1, 1), "conv", ConvEmbedder),
        ((3, 4, 4), "code", CodeEmbedder),
    ],
)
def test_embedders_take_conditions_of_any_shape(shape, embedder, kind):
    config = SMALL.model_copy(update={"embedder": embedder, "embedder_channels": 4})
    embed = make_embedder(shape, config, generator=generator(0))
    condition = 40.0 + 9.0 * randn(7, *shape)
    embed.initialise(condition)
    assert isinstance(embed, kind)
    assert embed(condition).shape == (7, 2 * D + 4)
    assert float(embed(condition).detach().abs().max()) < 30.0


def test_a_conv_embedder_normalises_from_its_first_batch_only():
    embed = ConvEmbedder((2, 32, 32), 5, channels=4, generator=generator(0))
    condition = 5.0 + 3.0 * randn(16, 2, 32, 32)
    before = embed(condition)
    assert torch.equal(embed.eval()(condition), before)
    embed.initialise(condition)
    assert all(norm.initialised for norm in embed.norms)
    maps = embed.norms[0].normalise(embed.convs[0](embed.entry.normalise(condition)))
    torch.testing.assert_close(maps.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(maps.std((0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)


def test_a_conv_embedder_wants_maps():
    with pytest.raises(ConfigError, match="'code' or 'mlp'"):
        make_embedder((9,), SMALL.model_copy(update={"embedder": "conv"}), generator=generator(0))


@pytest.mark.parametrize(("preset", "millions"), [("paper", 189), ("eulig", 126)])
def test_published_presets_have_the_published_size(preset, millions):
    """189 M and 126 M parameters; counted on one block, since all are alike."""
    config = LayerConfig.preset(preset).cinn
    block = Block(config.d, config.context, config, seed=0, generator=generator(0))
    count = config.blocks * sum(p.numel() for p in block.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.7)


def test_the_default_network_is_small_enough_to_be_bundled():
    assert sum(p.numel() for p in CINN(CinnConfig(), (2, 256)).parameters()) <= 1_800_000


def test_unknown_settings_are_refused():
    with pytest.raises(ValidationError):
        CinnConfig(layers=3)


def test_storage_round_trip():
    cinn = shaken(CINN(SMALL, (2, D)))
    tensors, meta = cinn_state(cinn)
    again = cinn_from(tensors, json.loads(json.dumps(meta)))
    z_bar, condition = randn(5, D), randn(5, 2, D)
    assert torch.equal(again.nll(z_bar, condition), cinn.nll(z_bar, condition))
    assert not again.training


@pytest.mark.parametrize("trained", [(), (1,)])
def test_couplings_that_do_nothing_are_neither_stored_nor_drawn(trained):
    cinn = CINN(SMALL, (2, D))
    cinn.initialise(table())
    with torch.no_grad():
        for number in trained:
            cinn.blocks[number].coupling.first[0].last.bias.add_(0.1)
    condition, v = randn(3, 2, D), randn(4, 3, D)
    drawn, nll = cinn.sample(condition, v), cinn.nll(v[0], condition)
    again = cinn_from(*cinn_state(cinn))  # of a file from before they were left out
    drop_idle(cinn)
    tensors, meta = cinn_state(cinn)
    assert {name.split(".")[1] for name in tensors if ".coupling." in name} == set(map(str, trained))
    for flow in (cinn, again, cinn_from(tensors, meta)):
        assert [block.coupling is not None for block in flow.blocks] == [
            number in trained for number in range(SMALL.blocks)
        ]
        assert torch.equal(flow.sample(condition, v), drawn)
        assert torch.equal(flow.nll(v[0], condition), nll)


def test_rounded_figures_belong_to_the_half_precision_file():
    cinn = CINN(SMALL, (2, D))
    cinn.initialise(table())
    shaken(cinn, 0.05)
    z_bar, condition = randn(5, D), randn(5, 2, D)
    before = cinn.nll(z_bar, condition)
    round_half(cinn)
    rounded = cinn.nll(z_bar, condition)
    tensors, meta = cinn_state(cinn)
    assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {torch.float16}
    again = cinn_from(tensors, meta)
    assert again.initialised
    assert torch.equal(again.nll(z_bar, condition), rounded)
    assert not torch.equal(before, rounded)
    torch.testing.assert_close(before, rounded, atol=0.02, rtol=0)


def test_rounding_refuses_what_half_precision_cannot_hold():
    cinn = CINN(SMALL, (2, D))
    with torch.no_grad():
        cinn.embedder.readout.bias[0] = 1e6
    before = {name: tensor.clone() for name, tensor in cinn.state_dict().items()}
    with pytest.raises(CheckFailedError, match=r"embedder.readout.bias .*\(65504\)"):
        round_half(cinn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in cinn.state_dict().items())


def test_a_file_that_does_not_fit_is_refused():
    tensors, meta = cinn_state(CINN(SMALL, (2, D)))
    with pytest.raises(ArtifactError, match="settings of this flow"):
        cinn_from(tensors, {"config": {"unknown": 1}, "condition_shape": [2, D]})
    with pytest.raises(ArtifactError, match="do not fit"):
        cinn_from({name: t for name, t in tensors.items() if "out" not in name}, meta)
    with pytest.raises(ArtifactError, match="do not fit"):
        cinn_from(tensors, meta | {"condition_shape": [3, D]})
    bad = {name: t.clone() for name, t in tensors.items()}
    bad["whitening.shift"][0] = torch.nan
    with pytest.raises(ArtifactError, match=r"whitening\.shift .*not finite"):
        cinn_from(bad, meta)


@pytest.mark.parametrize(
    ("mean", "log_var", "condition", "words"),
    [
        ((4, 3), (4, 2), (4, 5), r"mean \(4, 3\), log_var \(4, 2\)"),
        ((4, 3), (4, 3), (5, 5), "as many conditions"),
        ((0, 3), (0, 3), (0, 5), "at least one"),
        ((4, 3), (4, 3), (4,), "condition"),
    ],
)
def test_a_table_refuses_what_does_not_fit(mean, log_var, condition, words):
    with pytest.raises(DataError, match=words):
        CodeTable(torch.zeros(mean), torch.zeros(log_var), torch.zeros(condition))


def test_a_table_refuses_numbers_that_are_not_finite():
    with pytest.raises(DataError, match="1 numbers of condition"):
        CodeTable(torch.zeros(4, 3), torch.zeros(4, 3), torch.tensor([[0.0], [1.0], [torch.nan], [2.0]]))
