"""An analysis in a folder gives what an analysis in memory gives, and resumes at the layer where it was interrupted."""

import json

import pytest
import torch
from small_network import UNTRAINED_OPTIONS as OPTIONS
from small_network import disc_image

import invkit
from invkit.analysis.folder import analyze_into
from invkit.analysis.whole import Analysis
from invkit.artifacts import load
from invkit.errors import ConfigError, UsageError


@pytest.fixture(scope="module")
def image():
    return disc_image(32, 40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, network, image, place):
    out = tmp_path_factory.mktemp("run") / "out"
    outcome = analyze_into(network, ["0", "2"], image, out=out, command="invkit analyze", **OPTIONS, **place)
    assert outcome.done == ("layer 0", "layer 2", "report")
    return outcome.folder


def analysis_in(folder):
    return json.loads((folder / "manifest.json").read_text())["analysis"]


def test_it_is_what_an_analysis_in_memory_gives(folder, network, image, place):
    alone = invkit.analyze(network, ["0", "2"], image, **OPTIONS, **place)
    assert analysis_in(folder) == json.loads(json.dumps(alone.to_json()))
    stored = load(folder / "samples.safetensors", kind="samples").tensors
    tensors = alone.tensors()
    assert stored.keys() == tensors.keys()
    assert all(torch.equal(stored[name], tensors[name]) for name in tensors)


def test_results_of_layers_do_not_stay(folder):
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"figures", "items"}
    assert not list(folder.rglob(".*"))


def test_it_goes_on_with_the_layer_at_which_it_was_stopped(
    folder, network, image, place, tmp_path, monkeypatch
):
    real, measured = Analysis.measure, []

    def stops_once(analysis, name):
        measured.append(name)
        if measured == ["0", "2"]:
            raise KeyboardInterrupt
        return real(analysis, name)

    monkeypatch.setattr(Analysis, "measure", stops_once)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        analyze_into(network, ["0", "2"], image, out=out, **OPTIONS, **place)
    analyze_into(network, ["0", "2"], image, out=out, **OPTIONS, **place)
    assert measured == ["0", "2", "2"]
    assert analysis_in(out) == analysis_in(folder)
    assert (out / "samples.safetensors").read_bytes() == (folder / "samples.safetensors").read_bytes()
    # What is there is not done again, though the layers' own results are gone.
    assert analyze_into(network, ["0", "2"], image, out=out, **OPTIONS, **place).done == ()
    (out / "report.html").write_text("changed")
    again = analyze_into(network, ["0", "2"], image, out=out, **OPTIONS, **place)
    assert again.done == ("layer 0", "layer 2", "report")


def test_other_options_another_image_and_another_folder_are_refused(folder, network, image, place, tmp_path):
    with pytest.raises(ConfigError, match="samples was 5, now it is 6"):
        analyze_into(network, ["0", "2"], image, out=folder, **{**OPTIONS, "samples": 6}, **place)
    with pytest.raises(ConfigError, match="images was"):
        analyze_into(network, ["0", "2"], image + 1, out=folder, **OPTIONS, **place)
    with pytest.raises(ConfigError, match=r'layers was \["0", "2"\], now it is \["0"\]'):
        analyze_into(network, "0", image, out=folder, **OPTIONS, **place)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="no analysis"):
        analyze_into(network, "0", image, out=tmp_path, **OPTIONS, **place)
    with pytest.raises(TypeError, match="no option 'sample'"):
        analyze_into(network, "0", image, out=tmp_path / "new", sample=3, **place)
