"""The flow's inverse through torch.compile: the same codes, and never a reason to fail."""

import copy
import shutil

import pytest
import torch

from invkit.flow import compiled
from invkit.flow.cinn import CINN
from invkit.flow.compiled import CompiledInverse, compile_inverse
from invkit.flow.config import CinnConfig
from invkit.sampling.footprint import peak_bytes

IMAGES = 2
NO_GPU = "needs a CUDA device"


def flow(seed=0, **changes):
    config = CinnConfig(d=8, blocks=2, hidden=16, context=4, seed=seed, **changes)
    cinn = CINN(config, (6,)).eval().requires_grad_(False)
    source = torch.Generator().manual_seed(seed)
    for parameter in cinn.parameters():
        parameter.add_(0.2 * torch.randn(parameter.shape, generator=source))
    return cinn


def inputs(cinn, draws=5):
    source = torch.Generator().manual_seed(7)
    return torch.randn(draws, IMAGES, 8, generator=source), cinn.embed(
        torch.randn(IMAGES, 6, generator=source)
    )


@pytest.fixture
def traced(monkeypatch):
    """Let torch.compile trace and guard as ever, and run what it has traced without a C++ compiler; count its calls."""
    counts = {"traced": 0, "run": 0}

    def backend(graph, examples):
        counts["traced"] += 1

        def run(*arguments):
            counts["run"] += 1
            return graph.forward(*arguments)

        return run

    whole = torch.compile(CINN.inverse, dynamic=False, backend=backend)
    monkeypatch.setattr(compiled, "_compiled", lambda kind: whole)
    yield counts
    torch.compiler.reset()


@pytest.mark.parametrize("changes", [{}, {"mixing": "rotation", "separate": True}, {"affine": False}])
def test_codes_are_those_of_the_flow_as_it_was(traced, changes):
    cinn = flow(**changes)
    v, h = inputs(cinn)
    expected = cinn.inverse(v, h)
    compile_inverse(cinn)
    with torch.no_grad():
        torch.testing.assert_close(cinn.inverse(v, h), expected, rtol=1e-5, atol=1e-5)
    assert traced["run"] >= 1


def test_flows_of_the_same_sizes_share_what_is_compiled_and_keep_their_own_parameters(traced):
    one, two = flow(1), flow(2)
    v, h = inputs(one)
    expected = [CINN.inverse(cinn, v, h) for cinn in (one, two)]
    for cinn in (one, two):
        compile_inverse(cinn)
    with torch.no_grad():
        found = [one.inverse(v, h)]
        first = traced["traced"]
        found.append(two.inverse(v, h))
    assert traced["traced"] == first
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_what_is_not_drawing_is_not_compiled(traced):
    cinn = flow()
    compile_inverse(cinn)
    v, h = inputs(cinn)
    cinn.inverse(v.requires_grad_(), h).sum().backward()
    assert v.grad is not None and bool(v.grad.isfinite().all())
    with torch.no_grad():
        cinn.inverse(v[:1], h)
        cinn.inverse(v[0], h)
        assert peak_bytes(lambda: cinn.inverse(v, h)) > 0
    assert traced == {"traced": 0, "run": 0}


def test_without_a_compiler_it_draws_all_the_same_and_says_so_once(monkeypatch):
    calls = []

    def failing(kind):
        calls.append(kind)
        raise RuntimeError("no working C++ compiler found")

    monkeypatch.setattr(compiled, "_compiled", failing)
    cinn = flow()
    v, h = inputs(cinn)
    expected = cinn.inverse(v, h)
    compile_inverse(cinn)
    with torch.no_grad():
        with pytest.warns(UserWarning, match="could not be compiled"):
            assert torch.equal(cinn.inverse(v, h), expected)
        assert torch.equal(cinn.inverse(v, h), expected)
    assert calls == ["cpu"]


def test_a_fault_of_the_caller_is_not_taken_for_one_of_the_compiler(traced):
    cinn = flow()
    compile_inverse(cinn)
    v, h = inputs(cinn)
    with torch.no_grad(), pytest.raises(IndexError):
        cinn.inverse(v[..., :-1], h)
    assert isinstance(cinn.inverse, CompiledInverse) and not cinn.inverse.failed


def test_state_and_copies_are_as_before(traced):
    cinn = flow()
    names = list(cinn.state_dict())
    compile_inverse(cinn)
    assert list(cinn.state_dict()) == names
    twin = copy.deepcopy(cinn)
    v, h = inputs(cinn)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(0.5)
        assert torch.allclose(twin.inverse(v, h), CINN.inverse(twin, v, h), atol=1e-5)
        assert not torch.allclose(twin.inverse(v, h), cinn.inverse(v, h), atol=1e-2)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_the_real_compiler_gives_the_same_codes():
    cinn = flow()
    v, h = inputs(cinn)
    expected = cinn.inverse(v, h)
    compile_inverse(cinn)
    with torch.no_grad():
        torch.testing.assert_close(cinn.inverse(v, h), expected, rtol=1e-5, atol=1e-5)
    assert isinstance(cinn.inverse, CompiledInverse) and not cinn.inverse.failed


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_coupling_networks_in_bf16_draw_as_they_did_and_it_is_said():
    cinn = flow(bf16=True)
    with torch.no_grad():
        v, h = inputs(cinn)
        expected = cinn.inverse(v, h)
        compile_inverse(cinn)
        with pytest.warns(UserWarning, match="no coupling networks in bf16"):
            assert torch.equal(cinn.inverse(v, h), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
def test_cuda_graphs_give_the_same_codes_draw_after_draw():
    cinn = flow().cuda()
    v, h = (tensor.cuda() for tensor in inputs(flow()))
    compile_inverse(cinn)
    with torch.no_grad():
        found = [cinn.inverse(v + k, h) for k in range(5)]
        expected = [CINN.inverse(cinn, v + k, h) for k in range(5)]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert isinstance(cinn.inverse, CompiledInverse) and not cinn.inverse.failed
