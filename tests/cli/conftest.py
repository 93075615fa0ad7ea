import pytest
from typer.testing import CliRunner

from invkit.cli.app import app
from invkit.plugins.manager import default_host

PLUGIN = """
import invkit

print("printed at import")

def build():
    from torch import nn
    print("printed while it is built")
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))

@invkit.hookimpl
def invkit_denoisers():
    layers = (invkit.Layer("1", module="0", note="conv 3x3x4, before ReLU"),)
    citation = "[red]A & B[/oops] \\x1b[31m"
    return [invkit.Denoiser("stranger", build, invkit.Affine(0.0, 1000.0), layers, citation=citation)]
"""


@pytest.fixture(autouse=True)
def fresh_host():
    default_host.cache_clear()
    yield
    default_host.cache_clear()


@pytest.fixture
def invoke():
    """Run the command line in this process."""
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words], prog_name="invkit")


@pytest.fixture
def stranger(tmp_path):
    """A plugin in a file."""
    path = tmp_path / "stranger.py"
    path.write_text(PLUGIN)
    return path
