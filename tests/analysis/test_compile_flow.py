"""An analysis whose cINN is compiled: the same figures but for rounding, and the same trained parts."""

import pytest
import torch
from small_network import TINY_OPTIONS

import invkit
from invkit.errors import UsageError
from invkit.flow import compiled
from invkit.flow.cinn import CINN

OPTIONS = {**TINY_OPTIONS, "samples": 30, "refine": "none"}


def files(place):
    return sorted(path.relative_to(place["cache"]) for path in place["cache"].rglob("*.safetensors"))


@pytest.fixture(scope="module")
def plain(place, image, network):
    return invkit.analyze(network, "0", image, **OPTIONS, **place)


def test_draws_are_those_without_it_and_nothing_is_trained_anew(plain, place, image, network, monkeypatch):
    calls = []

    def backend(graph, examples):
        calls.append(graph)
        return graph.forward

    # Traced and guarded as ever, but run without the C++ compiler, which takes its time.
    whole = torch.compile(CINN.inverse, dynamic=False, backend=backend)
    monkeypatch.setattr(compiled, "_compiled", lambda kind: whole)
    before = files(place)
    found = invkit.analyze(network, "0", image, **OPTIONS, **place, compile_flow=True)
    torch.compiler.reset()
    assert calls and files(place) == before
    torch.testing.assert_close(found.samples, plain.samples, rtol=1e-4, atol=0.05)
    assert found.provenance["compile_flow"] is True
    assert "compile_flow" not in plain.provenance
    assert {**found.provenance, "compile_flow": None} == {**plain.provenance, "compile_flow": None}


def test_without_a_compiler_the_analysis_is_what_it_was(plain, place, image, network, monkeypatch):
    def failing(kind):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(compiled, "_compiled", failing)
    with pytest.warns(UserWarning, match="could not be compiled"):
        found = invkit.analyze(network, "0", image, **OPTIONS, **place, compile_flow=True)
    assert torch.equal(found.samples, plain.samples)


@pytest.mark.parametrize(
    "options", [{"sampler": "training-free"}, {"representation": "wavelet"}, {"representation": "spatial"}]
)
def test_where_there_is_no_cinn_it_is_refused(options, network, image):
    with pytest.raises(UsageError, match="only a cINN is compiled"):
        invkit.analyze(network, "0", image, **options, compile_flow=True)
