import importlib
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from invkit.denoisers.loaded import load_denoiser
from invkit.plugins.manager import PluginHost
from invkit.testing import check_plugin

FOLDER = Path(__file__).parents[1]
MODULE = FOLDER / "invkit_gaussian.py"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The distribution as pip would leave it: its module importable, its metadata on the path."""
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]
    info = tmp_path / "invkit_gaussian-0.1.0.dist-info"
    info.mkdir()
    requires = "".join(f"Requires-Dist: {text}\n" for text in project["dependencies"])
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n{requires}"
    )
    entries = "".join(f"{name} = {value}\n" for name, value in project["entry-points"]["invkit"].items())
    (info / "entry_points.txt").write_text(f"[invkit]\n{entries}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(FOLDER))
    importlib.invalidate_caches()
    return PluginHost()


def test_it_is_found_by_its_entry_point(installed):
    report = next(report for report in installed.reports() if report.name == "gaussian")
    assert report.status == "ok", report.reason
    assert report.distribution == "invkit-gaussian"
    assert dict(report.provides) == {"denoisers": ("gaussian",), "metrics": ("removed-energy",)}


def test_it_keeps_the_contract_when_installed(installed):
    report = check_plugin("gaussian", host=installed)
    assert report.passed, report.failed
    assert "layer 2 can be split" in {check.name for check in report.checks}


def test_it_keeps_the_contract_as_a_file():
    report = check_plugin(str(MODULE), host=PluginHost(installed=False))
    assert report.passed, report.failed


def test_it_is_scipys_gaussian_filter():
    host = PluginHost(installed=False)
    host.add_file(MODULE)
    spec, _ = host.denoiser("gaussian")
    x = torch.randn(1, 1, 24, 31, generator=torch.Generator().manual_seed(0)) * 300
    wanted = gaussian_filter(x[0, 0].double().numpy(), sigma=1.0, mode="nearest", truncate=3.0)
    np.testing.assert_allclose(load_denoiser(spec)(x)[0, 0].numpy(), wanted, atol=1e-3)
