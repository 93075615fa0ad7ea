"""Analyses and trainings move all that they must: on a device that the CPU plays they give what they give on the CPU."""

import pytest
import torch
from device_double import device_double
from kept_phantoms import PHANTOMS, cache_with_phantoms
from run_denoiser import CONFIG, host
from small_network import TINY, TINY_OPTIONS, Small

import invkit
from invkit.errors import UsageError
from invkit.plugins.manager import PluginHost
from invkit.quality.evaluate import evaluate
from invkit.training.precision import in_float64, sum_in_float64
from invkit.workflow.config import RunConfig
from invkit.workflow.run import run

CINN = TINY.cinn.model_copy(update={"steps": 12, "evaluate_every": 6})
SHORT = TINY.model_copy(
    update={"cinn": CINN, "rows": 64, "regressor": TINY.regressor.model_copy(update={"steps": 6})}
)
OPTIONS = {**TINY_OPTIONS, "config": SHORT, "train_noise": "image", "samples": 8, "refine": 8}
OTHERS = {
    "training-free": {"sampler": "training-free"},
    "high dose": {"domain": "high"},
    "region": {"region": (10, 10, 20, 20)},
    "full controls": {"controls": "full"},
}


class TestDouble:
    """The stand-in itself: it must refuse what the real device refuses."""

    @pytest.fixture(params=["mps", "cuda"])
    def device(self, request):
        with device_double(request.param) as device:
            yield device

    def test_tensors_keep_their_place(self, device):
        a = torch.ones(3).to(device)
        network = torch.nn.Linear(3, 2).to(device.type)
        out = network(a[None])[0, :1]
        (slope,) = torch.autograd.grad(out.sum(), network.weight)
        for tensor in (a, a + 1, a.new_zeros(2), torch.rand(2, device=device), out, slope, network.bias):
            assert tensor.device == device
        tangent = torch.func.jvp(network, (a[None],), (a[None],))[1]
        assert tangent.device == device
        assert (
            a.cpu().device.type
            == a.to("cpu", torch.float64).device.type
            == torch.ones(2).device.type
            == "cpu"
        )

    def test_two_devices_do_not_mix(self, device):
        a, b = torch.ones(3, device=device), torch.ones(3)
        for mix in (
            lambda: a + b,
            lambda: torch.stack([b, a]),
            lambda: b[a.long()],
            lambda: torch.where(a > 0, a, b),
        ):
            with pytest.raises(RuntimeError, match="tensors on"):
                mix()
        with pytest.raises(TypeError, match="cannot become an array"):
            a.numpy()
        with pytest.raises(RuntimeError, match="generator"):
            torch.randn(3, device=device, generator=torch.Generator())
        assert (a * torch.tensor(2.0)).device == a[b.long() - 1].device == b.copy_(a).to(a).device == device
        assert b.device.type == "cpu"

    def test_float64_is_where_it_is(self, device):
        a = torch.ones(3, device=device)
        if device.type == "cuda":
            assert a.double().device == device
            return
        for ask in (
            a.double,
            lambda: a.sum(dtype=torch.float64),
            lambda: torch.zeros(2, dtype=torch.float64, device=device),
        ):
            with pytest.raises(TypeError, match="float64"):
                ask()
        assert torch.ones(3, dtype=torch.float64).to(a).device == device

    def test_sums_are_in_float64_where_there_is_one(self, device):
        a = torch.arange(6.0).view(2, 3).to(device)
        for found in (in_float64(a).sum(1), sum_in_float64(a, 1)):
            assert found.dtype == torch.float64
            assert found.device.type == ("cpu" if device.type == "mps" else "cuda")
            assert found.tolist() == [3.0, 12.0]


@pytest.fixture(scope="module")
def on_cpu(place, image):
    """Analyses on the CPU."""
    known = {}

    def analysed(name, options):
        if name not in known:
            known[name] = invkit.analyze(Small(), "0", image, **OPTIONS, **options, **place)
        return known[name]

    return analysed


@pytest.fixture
def untrained(tmp_path_factory):
    """A cache in which nothing has been trained or measured on another device."""
    return cache_with_phantoms(tmp_path_factory, PHANTOMS)


def agrees(device, image, options, wanted, cache):
    with device_double(device):
        found = invkit.analyze(
            Small().to(device),
            "0",
            image,
            **OPTIONS,
            **options,
            device=device,
            cache=cache,
            host=PluginHost(installed=False),
        )
        found.report(cache / "report.html")
    torch.testing.assert_close(found.raw.cpu(), wanted.raw, rtol=0, atol=1e-2)
    torch.testing.assert_close(found.samples.cpu(), wanted.samples, rtol=0, atol=1e-2)
    nll, expected = (one.layers[0].metrics.get("nll", {}).get("layer") for one in (found, wanted))
    assert nll == (expected if expected is None else pytest.approx(expected, abs=1e-4))


def test_an_analysis_with_its_trainings(image, on_cpu, untrained):
    agrees("mps", image, {}, on_cpu("default", {}), untrained)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["mps", "cuda"])
@pytest.mark.parametrize("name", OTHERS)
def test_every_sampler_and_control(name, device, image, on_cpu, untrained):
    agrees(device, image, OTHERS[name], on_cpu(name, OTHERS[name]), untrained)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["mps", "cuda"])
def test_a_run_that_trains_everything(device, tmp_path):
    with device_double(device):
        found = run(RunConfig.model_validate(CONFIG), tmp_path, device=device, host=host())
    assert found.reports


def test_a_denoiser_is_measured_there_as_here():
    wanted = evaluate(Small(), ["phantoms:6"], host=PluginHost(installed=False)).to_json()
    with device_double("mps"):
        network = Small().to("mps")
        found = evaluate(network, ["phantoms:6"], device="mps", host=PluginHost(installed=False)).to_json()
    assert found["exams"] == wanted["exams"]


def test_a_network_that_is_elsewhere_is_refused(image):
    with device_double("cuda"):
        network = Small().to("cuda")
        with pytest.raises(UsageError, match="pass device='cuda:0'"):
            invkit.analyze(network, "0", image, **OPTIONS)
        with pytest.raises(UsageError, match="the network is on cpu"):
            invkit.analyze(Small(), "0", image, **OPTIONS, device="cuda")
        assert invkit.load(network).device == network[0].weight.device
