"""A package made of somebody's network: it gives what the network gives, with its weights and its layers."""

from textwrap import dedent

import pytest
import torch
from torch import nn

from invkit.denoisers.loaded import load_denoiser
from invkit.denoisers.spec import Affine
from invkit.errors import ArtifactError, PluginError, UsageError
from invkit.plugins.manager import PluginHost
from invkit.testing import check_plugin
from invkit.workflow.adopt import adopt

NET = """
    from torch import nn

    class Net(nn.Module):
        def __init__(self, width=4):
            super().__init__()
            self.first = nn.Conv2d(1, width, 3, padding=1)
            self.last = nn.Conv2d(width, 1, 3, padding=1)

        def forward(self, x):
            return self.last(self.first(x).relu())

    class Residual(Net):
        def forward(self, x):
            return x - super().forward(x)

    net = Net()
    number = 3
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(dedent(NET))
    return path


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(3)
    network = nn.ModuleDict({"first": nn.Conv2d(1, 4, 3, padding=1), "last": nn.Conv2d(4, 1, 3, padding=1)})
    state = network.state_dict()
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "x.pth")
    return state, tmp_path / "x.pth"


def test_the_package_is_the_network_with_its_weights_units_and_cuts(file, weights, tmp_path):
    state, path = weights
    written = adopt(
        "mine", f"{file}:Net", tmp_path / "made", weights=path, preprocessing=Affine(-500.0, 250.0)
    )
    package = tmp_path / "made" / "invkit_mine"
    assert written == [
        tmp_path / "made" / "pyproject.toml",
        *(package / name for name in ("__init__.py", "net.py", "mine.safetensors")),
    ]
    host = PluginHost(installed=False)
    host.add_file(package)
    spec, _ = host.denoiser("mine")
    f = load_denoiser(spec)
    x = 100 * torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    conv = nn.functional.conv2d
    hidden = conv((x + 500) / 250, state["first.weight"], state["first.bias"], padding=1).relu()
    expected = conv(hidden, state["last.weight"], state["last.bias"], padding=1) * 250 - 500
    assert torch.equal(f(x), expected)
    assert [(one.key, one.module, one.note) for one in spec.layers] == [
        ("1", "first", "Conv2d, a cut"),
        ("2", "last", "Conv2d, a cut"),
    ]
    failed = check_plugin(str(package), host=PluginHost(installed=False)).failed
    assert not [text for text in failed if "moves" not in text]  # random weights keep no HU


def test_of_a_residual_network_the_branches_are_its_layers(file, tmp_path):
    adopt("rest", f"{file}:Residual", tmp_path / "made")
    host = PluginHost(installed=False)
    host.add_file(tmp_path / "made" / "invkit_rest")
    spec, _ = host.denoiser("rest")
    assert [(one.module, one.note) for one in spec.layers] == [
        ("first", "Conv2d, a branch"),
        ("last", "Conv2d, a branch"),
    ]
    assert spec.weights == ()


def test_what_cannot_be_made_a_package_is_named(file, weights, tmp_path):
    _, path = weights
    folder = tmp_path / "made"
    for source in (str(file), f"{file}:net", f"{file}:nothing", f"{file}:number"):
        with pytest.raises(
            UsageError,
            match="a class or a function that returns the network; it has: Net, Residual, net, number",
        ):
            adopt("mine", source, folder)
    with pytest.raises(ArtifactError, match="cannot read the weights"):
        adopt("mine", f"{file}:Net", folder, weights=tmp_path / "lost.pth")
    torch.save({"other": torch.zeros(1)}, path)
    with pytest.raises(ArtifactError, match="contains no weights of mine"):
        adopt("mine", f"{file}:Net", folder, weights=path)
    with pytest.raises(UsageError, match="must match"):
        adopt("../mine", f"{file}:Net", folder)
    (tmp_path / "blocks.py").write_text("WIDTH = 4\n")
    other = tmp_path / "other.py"
    code = """
        def make():
            from blocks import WIDTH
            from torch import nn
            return nn.Conv2d(1, 1, 3, padding=1)
    """
    other.write_text(dedent(code))
    with pytest.raises(UsageError, match=r"imports what lies beside it \(blocks\)"):
        adopt("mine", f"{other}:make", folder)
    other.write_text("1 / 0")
    with pytest.raises(
        PluginError, match=r"other.py cannot be imported: ZeroDivisionError.*other.py, line 1"
    ):
        adopt("mine", f"{other}:make", folder)
    assert not folder.exists()
