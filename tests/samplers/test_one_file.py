"""A sampler in one file of a user's is analysed, certified and reported as the built-in ones are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from kept_phantoms import cache_with_phantoms
from small_network import TINY_OPTIONS, Small, disc_image
from typer.testing import CliRunner

import invkit
from invkit.analysis.folder import analyze_into
from invkit.cli.app import app
from invkit.fiber.distance import activation_distance
from invkit.plugins.manager import PluginHost

FILE = Path(__file__).parents[2] / "docs" / "plugins" / "example-sampler" / "shuffled.py"
OPTIONS = {**TINY_OPTIONS, "train_noise": "image", "samples": 12, "refine": 10}


def test_it_is_short():
    assert len(FILE.read_text(encoding="utf-8").splitlines()) <= 60


@pytest.fixture(scope="module")
def host():
    host = PluginHost(installed=False)
    assert host.add_file(FILE).provides == {"samplers": ("shuffled",)}
    return host


@pytest.fixture(scope="module")
def result(host, tmp_path_factory):
    cache = cache_with_phantoms(tmp_path_factory)
    return invkit.analyze(
        Small(), "0", disc_image(50, 45), sampler="shuffled", host=host, cache=cache, **OPTIONS
    )


def test_draws_are_shuffled_noise_around_f_of_the_image(result):
    noise = (result.x - result.f_x).flatten().sort().values
    for draw in result.raw:
        torch.testing.assert_close((draw - result.f_x).flatten().sort().values, noise, atol=1e-3, rtol=0)
    assert not torch.equal(result.raw[0], result.raw[1])


def test_they_are_certified_and_reported(result, tmp_path):
    proof = result.metrics["certified"]
    assert proof["count"] == len(result.samples) >= 8
    (witnesses,) = result.layers[0].witnesses
    assert result.metrics["witnesses"]["count"] == len(witnesses.samples) >= 8
    split = invkit.Split(Small(), "0")
    moved = activation_distance(split.phi(witnesses.samples), split.phi(result.x))
    assert float(moved.max()) > 0
    assert "training_free" in result.metrics["fiber_error"]
    page = result.report(tmp_path / "report.html").read_text()
    assert "of its samples are certified at the same tolerance" in page
    assert "The samples are f(x) plus x - f(x) with its pixels shuffled: nothing was trained for them" in page


def test_the_verdict_says_what_this_sampler_proposes_and_not_what_another_does(result):
    text = " ".join(result.layers[0].verdict.samples)
    assert "they are f(x) plus x - f(x) with its pixels shuffled, need no training" in text
    assert "published model" not in text


@pytest.mark.slow
def test_the_command_line_takes_it(tmp_path):
    np.save(tmp_path / "image.npy", disc_image(32, 32))
    command = ["analyze", "--plugin", str(FILE), "--sampler", "shuffled", "--model", "oracle-linear-lowpass"]
    options = ["--layer", "output", "--input", str(tmp_path / "image.npy"), "--train-data", "phantoms:12"]
    options += ["--train-noise", "image", "--preset", "tiny", "--samples", "9", "--refine", "8"]
    found = CliRunner().invoke(app, [*command, *options, "--out", str(tmp_path / "run"), "--json"])
    assert found.exit_code == 0, found.output
    assert "shuffled" in (tmp_path / "run" / "report.json").read_text()
    assert "nothing was trained for them" in (tmp_path / "run" / "report.html").read_text()


BROKEN = """
import torch
import invkit
from invkit.samplers import Family

class Broken(Family):
    def find(self, split, domain, workshop):
        return self

    def draws(self, target):
        return lambda seed, image, indices: {what}

@invkit.hookimpl
def invkit_samplers():
    return [invkit.Sampler("broken", Broken, trained=False)]
"""


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("1 / 0", "the sampler broken cannot draw: ZeroDivisionError"),
        (
            "torch.zeros(len(indices), 1, 9, 9)",
            r"must draw images of shape \(\d+, 1, 50, 45\), got \(\d+, 1, 9, 9\)",
        ),
        ("None", "must draw images of shape .*, got NoneType"),
    ],
)
def test_what_a_sampler_does_wrong_is_told_as_its_own_fault(what, said, tmp_path, tmp_path_factory):
    (tmp_path / "broken.py").write_text(BROKEN.replace("{what}", what))
    host = PluginHost(installed=False)
    host.add_file(tmp_path / "broken.py")
    cache = cache_with_phantoms(tmp_path_factory)
    with pytest.raises(invkit.PluginError, match=said):
        invkit.analyze(Small(), "0", disc_image(50, 45), sampler="broken", host=host, cache=cache, **OPTIONS)


def test_a_folder_is_not_gone_on_with_once_the_code_of_a_plugin_has_changed(tmp_path, tmp_path_factory):
    """What was drawn by a sampler is not taken for what another version of it draws."""
    cache, file, out = cache_with_phantoms(tmp_path_factory), tmp_path / "shuffled.py", tmp_path / "out"

    def run():
        host = PluginHost(installed=False)
        host.add_file(file)
        options = OPTIONS | {"refine": "none", "samples": 2}
        analyze_into(
            Small(), "0", disc_image(50, 45), sampler="shuffled", out=out, host=host, cache=cache, **options
        )

    text = FILE.read_text(encoding="utf-8")
    file.write_text(text)
    run()
    run()
    file.write_text(text + "\n# another version\n")
    with pytest.raises(invkit.ConfigError, match=r"plugins\.shuffled\.py was"):
        run()
