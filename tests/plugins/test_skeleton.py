import hashlib
import importlib.util
import os
import subprocess
import sys
import tomllib

import pytest
from safetensors.torch import save_file

from invkit.denoisers.loaded import load_denoiser
from invkit.errors import ResourceError, UsageError
from invkit.plugins.manager import PluginHost
from invkit.plugins.skeleton import write_skeleton


def test_the_skeleton_is_a_working_plugin(tmp_path, site):
    project_file, module = write_skeleton("my-net", tmp_path / "made")
    project = tomllib.loads(project_file.read_text())["project"]
    site.add("my-net", requires=project["dependencies"])
    (site.folder / "fake_my_net.py").write_text(module.read_text())
    assert (module.name, module.parent.parent) == ("__init__.py", project_file.parent)
    report = next(report for report in PluginHost().reports() if report.name == "my-net")
    assert report.status == "ok", report.reason
    assert project["entry-points"]["invkit"] == {"my-net": module.parent.name}
    assert report.provides == {"denoisers": ("my-net",)}


def test_nothing_is_overwritten(tmp_path):
    first, second = write_skeleton("mine", tmp_path)
    second.write_text("my work")
    first.unlink()
    with pytest.raises(UsageError, match="already exists and is not overwritten"):
        write_skeleton("mine", tmp_path)
    assert second.read_text() == "my work"


@pytest.mark.parametrize("name", ["", "../up", "Big", 'x"\ny', "a/b", "a\n"])
def test_a_name_that_is_none_is_refused(name, tmp_path):
    with pytest.raises(UsageError, match="must match"):
        write_skeleton(name, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_folder_that_cannot_be_made_is_a_resource_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot write into"):
        write_skeleton("mine", tmp_path / "file" / "made")


RUN = """
import torch, invkit, invkit_blur
f = invkit.load("blur.bundled")
print(f.weights_tag, float(f.network[0].weight.flatten()[0]), tuple(f(torch.zeros(1, 1, 40, 40)).shape), invkit_blur.__file__)
"""


def test_its_wheel_is_installed_with_its_weights_and_runs(tmp_path):
    """As an author does it: new, weights beside the module, `Weights(source="package:...")`, wheel, install, load."""
    _, module = write_skeleton("blur", tmp_path / "made")
    spec = importlib.util.spec_from_file_location("made_blur", module)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    network = load_denoiser(made.invkit_denoisers()[0]).network
    network[0].weight.fill_(0.25)
    path = module.parent / "blur.safetensors"
    save_file(network.state_dict(), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    weights = (
        f'invkit.Weights("bundled", "package:invkit_blur/blur.safetensors", "{sha256}", "noise", "CC0-1.0")'
    )
    module.write_text(
        module.read_text().replace(
            "            layers=(", f"            weights=({weights},),\n            layers=("
        )
    )
    wheel = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path / "dist"),
        str(tmp_path / "made"),
    ]
    subprocess.run(wheel, check=True, capture_output=True)
    (built,) = (tmp_path / "dist").iterdir()
    target = tmp_path / "installed"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
        str(built),
    ]
    subprocess.run(install, check=True, capture_output=True)
    assert (target / "invkit_blur" / "blur.safetensors").read_bytes() == path.read_bytes()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(target), os.environ.get("PYTHONPATH", "")]),
        "INVKIT_CACHE": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN], check=True, capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.stdout.split(" ", 2)[:2] == ["bundled", "0.25"]
    assert done.stdout.split()[-1] == str(target / "invkit_blur" / "__init__.py")
    assert (
        len(list((tmp_path / "cache" / "plugins").iterdir())) == 1
    )  # asked once, kept by the hash of what is installed
