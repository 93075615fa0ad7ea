import sys
from textwrap import dedent

import pytest
import torch
from torch import nn

from invkit.denoisers.loaded import load_denoiser
from invkit.errors import PluginError
from invkit.plugins.manager import PluginHost

CODE = """
    import torch
    from torch import nn
    import invkit

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)
        def forward(self, x):
            return self.conv(x)

    net = Net()
    single = invkit.Denoiser("single", Net, invkit.Affine(0.0, 1.0))
    several = [invkit.Denoiser(name, Net, invkit.Affine(0.0, 1.0)) for name in ("one", "two")]
    number = 3
    make_net = lambda: Net()
    def make_denoiser():
        return single
    def make_several():
        return several
    def make_function():
        return make_net
    def make_nothing():
        return None
    def make_trouble():
        raise ValueError("no network today")
"""


@pytest.fixture
def host():
    return PluginHost(installed=False)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my.py"
    path.write_text(dedent(CODE))
    return path


@pytest.mark.parametrize(
    ("attribute", "names"),
    [
        ("single", ("single",)),
        ("several", ("one", "two")),
        ("make_denoiser", ("single",)),
        ("make_several", ("one", "two")),
        ("net", ("net",)),
        ("Net", ("net",)),
        ("make_net", ("make_net",)),
    ],
)
def test_an_attribute_of_a_file_becomes_denoisers(attribute, names, host, file):
    report = host.add_file(f"{file}:{attribute}")
    assert report.name == "my.py"
    assert report.provides == {"denoisers": names}
    for name in names:
        x = torch.randn(1, 1, 9, 8, generator=torch.Generator().manual_seed(0))
        assert load_denoiser(host.denoiser(name)[0])(x).shape == x.shape


def test_a_given_network_is_used_with_its_weights_and_left_alone(host):
    network = nn.Conv2d(1, 1, 3, padding=1).train()
    host.add_object(network, name="My Net!")
    loaded = load_denoiser(host.denoiser("my-net")[0])
    assert torch.equal(loaded.network.weight, network.weight)
    assert network.training
    assert network.weight.requires_grad


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [
        ("nothing_here", "has no 'nothing_here'; it has: Net, make_denoiser"),
        ("number", "'number' is a int; it must be an invkit.Denoiser"),
        ("make_function", r"make_function\(\) returned a function"),
        ("make_nothing", "is a NoneType"),
        ("make_trouble", "ValueError: no network today"),
    ],
)
def test_an_attribute_that_cannot_be_used_is_an_error(attribute, reason, host, file):
    with pytest.raises(PluginError, match=reason):
        host.add_file(f"{file}:{attribute}")


def test_a_file_without_an_attribute_gives_its_hooks(host, tmp_path, good):
    path = tmp_path / "hooks.py"
    path.write_text(good("stranger"))
    assert host.add_file(path).provides == {"denoisers": ("stranger",)}
    assert host.add_file(path) is host.add_file(str(path)), "the same file again must change nothing"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("x = 1", "no function marked with @invkit.hookimpl. Name what to use, as in bad.py:NAME; it has: x"),
        ("import sys; sys.exit()", "cannot be imported: it called sys.exit"),
        ("import surely_not_installed", "surely_not_installed"),
        (
            "import invkit\n@invkit.hookimpl\ndef invkit_denoiser(): return []",
            "did you mean 'invkit_denoisers'",
        ),
        ("import invkit\n@invkit.hookimpl\ndef invkit_denoisers(x): return []", "hooks cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error(code, reason, host, tmp_path):
    path = tmp_path / "bad.py"
    path.write_text(code)
    with pytest.raises(PluginError) as caught:
        host.add_file(path)
    assert reason in str(caught.value)


@pytest.mark.parametrize("reference", ["missing.py", "missing.py:net", ".", "", ":", "a\0b.py"])
def test_a_file_that_is_not_there_is_an_error(reference, host):
    with pytest.raises(PluginError, match="there is no Python file"):
        host.add_file(reference)


def test_a_file_may_import_its_neighbours(host, tmp_path, good, monkeypatch):

    (tmp_path / "neighbour_of_a_plugin.py").write_text("NAME = 'beside'")
    path = tmp_path / "main_file.py"
    path.write_text(good("own", "from neighbour_of_a_plugin import NAME\nassert NAME == 'beside'\n"))
    search_path = list(sys.path)
    host.add_file(path)
    assert sys.path == search_path
    monkeypatch.delitem(sys.modules, "neighbour_of_a_plugin")
