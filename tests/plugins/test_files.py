import copy
import hashlib
import os
import sys
from textwrap import dedent

import pytest
import torch
from safetensors.torch import save_file
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


def test_a_file_may_import_its_neighbours_and_nothing_else_changes(host, tmp_path, good):
    (tmp_path / "neighbour_of_a_plugin.py").write_text("NAME = 'beside'")
    path = tmp_path / "main_file.py"
    path.write_text(good("own", "from neighbour_of_a_plugin import NAME\nassert NAME == 'beside'\n"))
    search_path = list(sys.path)
    host.add_file(path)
    assert sys.path == search_path
    assert "neighbour_of_a_plugin" not in sys.modules


NETWORK = """
    from torch import nn

    GAIN = {gain}

    def build():
        from parts.scale import Scale
        import parts.deep.names
        return Scale(GAIN * parts.deep.names.FACTOR)
"""
SCALE = """
    import torch
    from torch import nn

    class Scale(nn.Module):
        def __init__(self, gain):
            super().__init__()
            from .deep import names
            self.gain = nn.Parameter(torch.tensor(gain / names.FACTOR))
        def forward(self, x):
            return self.gain * x
"""
PLUGIN = """
    import invkit

    def build():
        import network
        from network import build
        assert build is network.build
        return build()

    @invkit.hookimpl
    def invkit_denoisers():
        return [invkit.Denoiser("{name}", build, invkit.Affine(0.0, 1.0))]
"""


@pytest.mark.parametrize("packages", [True, False])
def test_imports_are_a_files_own_also_when_they_run_later(host, tmp_path, packages):
    """Two folders, each with a `network.py` and a folder `parts`; both networks are built after both files were read."""
    for name, gain in (("first", 2.0), ("second", 3.0)):
        folder = tmp_path / name
        (folder / "parts" / "deep").mkdir(parents=True)
        for inside in (folder / "parts", folder / "parts" / "deep") if packages else ():
            (inside / "__init__.py").write_text("")
        (folder / "network.py").write_text(dedent(NETWORK.format(gain=gain)))
        (folder / "parts" / "scale.py").write_text(dedent(SCALE))
        (folder / "parts" / "deep" / "names.py").write_text("FACTOR = 5.0\n")
        (folder / "plugin.py").write_text(dedent(PLUGIN.format(name=name)))
        host.add_file(folder / "plugin.py")
    x = torch.ones(1, 1, 8, 8)
    for name, gain in (("first", 2.0), ("second", 3.0), ("first", 2.0)):
        loaded = load_denoiser(host.denoiser(name)[0])
        assert torch.equal(loaded(x), gain * x)
        assert type(copy.deepcopy(loaded.network)) is type(loaded.network)
    assert not {"network", "parts", "plugin"} & sys.modules.keys()


def test_what_lies_beside_a_file_never_replaces_the_standard_library_or_torch(host, tmp_path, good):
    for name in ("json", "torch", "invkit"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong one')")
    path = tmp_path / "plugin.py"
    path.write_text(good("own", "import json, torch\nassert torch.Tensor\n"))
    assert host.add_file(path).provides == {"denoisers": ("own",)}


def test_a_sibling_that_is_missing_is_named_as_it_was_written(host, tmp_path, good):
    path = tmp_path / "plugin.py"
    path.write_text(good("own", "import nowhere_to_be_found.inside\n"))
    with pytest.raises(
        PluginError, match="it needs the module 'nowhere_to_be_found', which is not installed"
    ):
        host.add_file(path)


def test_the_folder_of_a_package_is_a_plugin_with_its_own_weights(host, tmp_path):
    package = tmp_path / "made_of_two"
    package.mkdir()
    state = {"0.weight": torch.full((1, 1, 1, 1), 2.0), "0.bias": torch.zeros(1)}
    save_file(state, package / "w.safetensors")
    sha256 = hashlib.sha256((package / "w.safetensors").read_bytes()).hexdigest()
    (package / "net.py").write_text(
        "from torch import nn\n\ndef build():\n    return nn.Sequential(nn.Conv2d(1, 1, 1))\n"
    )
    (package / "__init__.py").write_text(
        dedent(f"""
        import invkit
        from made_of_two.net import build
        from .net import build as again
        assert build is again

        @invkit.hookimpl
        def invkit_denoisers():
            weights = invkit.Weights("mine", "package:made_of_two/w.safetensors", "{sha256}", "noise", "CC0-1.0")
            return [invkit.Denoiser("two", build, invkit.Affine(0.0, 1.0), weights=(weights,))]
        """)
    )
    assert host.add_file(package).name == "made_of_two"
    x = torch.ones(1, 1, 8, 8)
    assert torch.equal(load_denoiser(host.denoiser("two")[0])(x), 2 * x)
    assert host.add_file(package / "__init__.py") is host.add_file(package)


@pytest.fixture
def folder(tmp_path, good):
    folder = tmp_path / "mine"
    (folder / "packed").mkdir(parents=True)
    (folder / "packed" / "__init__.py").write_text(good("packed"))
    (folder / "alone.py").write_text(good("alone", "from network import NAME\n"))
    (folder / "network.py").write_text("NAME = 'beside'\n")
    (folder / "broken.py").write_text("import invkit\ninvkit.hookimpl\n1 / 0\n")
    (folder / "twice.py").write_text(good("alone"))
    (folder / "notes.txt").write_text("hookimpl")
    (folder / "not_run.py").write_text("raise SystemExit('this is no plugin')")
    return folder


def test_a_folder_of_plugins_is_added_and_a_broken_one_costs_no_other(host, folder):
    reports = {report.name: report for report in host.add_folder(folder)}
    assert {name: report.status for name, report in reports.items()} == {
        "alone.py": "ok",
        "broken.py": "broken",
        "packed": "ok",
        "twice.py": "broken",
    }
    assert "ZeroDivisionError: division by zero (mine/broken.py, line 3)" in reports["broken.py"].reason
    assert "denoiser 'alone' is refused" in reports["twice.py"].reason
    assert {"alone", "packed"} <= host.denoisers().keys()
    assert len([report for report in host.reports() if report.name in reports]) == 4
    with pytest.raises(PluginError, match="there is no folder of plugins"):
        host.add_folder(folder / "nowhere")


def test_folders_of_plugins_are_taken_from_the_environment(folder, tmp_path, good, monkeypatch, site):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "second.py").write_text(good("second"))
    monkeypatch.setenv("INVKIT_PLUGINS", os.pathsep.join([str(folder), str(tmp_path / "other")]))
    assert {"alone", "packed", "second"} <= set(PluginHost().names("denoisers"))
    assert "second" not in PluginHost(installed=False).names("denoisers")
