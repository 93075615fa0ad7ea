"""A series gives what its slices give one by one, goes on after an interruption, and holds none of them."""

import csv
import json

import numpy as np
import pytest
import torch
from small_network import UNTRAINED_OPTIONS as OPTIONS

import invkit
from invkit.analysis import series as module
from invkit.analysis.whole import Analysis
from invkit.data.images import Scan, as_image
from invkit.errors import ConfigError, ResourceError, UsageError
from invkit.statistics.pooling import leaves


@pytest.fixture(scope="module")
def images():
    noise = np.random.default_rng(0).normal(0, 20, (3, 32, 40))
    return (noise + np.array([0.0, 60.0, 200.0])[:, None, None]).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("series") / "out"


@pytest.fixture(scope="module")
def result(folder, images, network, place):
    path = folder.parent / "images.npy"
    np.save(path, images)
    return module.analyze_series(network, "0", path, out=folder, **OPTIONS, **place)


@pytest.mark.parametrize(("given", "wanted"), [(None, 0.8), (0.5, 0.5)])
def test_slices_keep_the_size_of_their_pixels(given, wanted, images, network, place, tmp_path, monkeypatch):
    class Seen(Exception):
        """Ends the series at its first slice."""

    def whole(analysis):
        raise Seen(analysis.subject.spacing)

    monkeypatch.setattr(module, "read_scan", lambda *_, **__: Scan(as_image(images), 0.8))
    monkeypatch.setattr(Analysis, "whole", whole)
    with pytest.raises(Seen) as seen:
        module.analyze_series(network, "0", "scan", out=tmp_path / "out", spacing=given, **OPTIONS, **place)
    assert seen.value.args == (wanted,)


@pytest.mark.slow
def test_every_slice_is_what_an_analysis_of_it_gives(result, images, network, place):
    assert len(result) == 3
    for index in (0, 2):
        row = result.slices[index]
        alone = invkit.analyze(network, "0", images[index], seed=row["seed"], **OPTIONS, **place)
        assert row["layers"]["0"]["metrics"] == json.loads(json.dumps(alone.metrics))
        assert torch.equal(result.samples(index + 1), alone.raw)
        assert torch.equal(result.tensor(index + 1, "layer0.std"), alone.layers[0].draws[0].std[None])
    assert len({row["seed"] for row in result.slices}) == 3


@pytest.mark.slow
def test_figures_over_slices_are_root_mean_squares(result):
    values = [row["layers"]["0"]["metrics"] for row in result.slices]
    for key in ("spread_hu", "f_error_hu", "fiber_error.samples"):
        each = np.array([dict(leaves(one))[key] for one in values])
        found = dict(leaves(result.metrics["0"]))[key]
        assert found == pytest.approx(np.sqrt((each**2).mean()))
        interval = result.metrics["0"]
        for part in key.split("."):
            interval = interval[part]
        assert each.min() - 1e-9 <= interval["low"] <= found <= interval["high"] <= each.max() + 1e-9


@pytest.mark.slow
def test_the_folder_holds_reports_tables_and_figures(result, folder):
    rows = list(csv.DictReader((folder / "series.csv").read_text().splitlines()))
    assert [row["slice"] for row in rows] == ["1", "2", "3"]
    spread = result.slices[1]["layers"]["0"]["metrics"]["spread_hu"]["value"]
    assert float(rows[1]["spread_hu"]) == spread
    page = result.report.read_text()
    for row in result.slices:
        assert (folder / row["report"]).is_file()
        assert f'href="{row["report"]}"' in page
    assert page.count("data:image/png") == 3
    assert "<script" not in page
    assert json.loads((folder / "series.json").read_text()) == json.loads(json.dumps(result.to_json()))


@pytest.mark.slow
def test_what_is_done_is_not_done_again(result, folder, images, network, place, monkeypatch):
    def stop(analysis):
        raise AssertionError("a slice was analysed again")

    monkeypatch.setattr(Analysis, "whole", stop)
    said = []
    again = module.analyze_series(network, "0", images, out=folder, say=said.append, **OPTIONS, **place)
    assert again.to_json() == result.to_json()
    assert said == ["4 of 4 items were done before"]


@pytest.mark.slow
def test_it_goes_on_behind_an_interruption_to_the_same_result(
    result, images, network, place, tmp_path, monkeypatch
):
    real, calls = Analysis.whole, []

    def fails_at_the_second(analysis):
        calls.append(analysis.sampling.seed)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(analysis)

    monkeypatch.setattr(Analysis, "whole", fails_at_the_second)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        module.analyze_series(network, "0", images, out=out, **OPTIONS, **place)
    again = module.analyze_series(network, "0", images, out=out, **OPTIONS, **place)
    assert len(calls) == 4  # the first slice once
    assert again.to_json() == result.to_json()
    for number in (1, 2, 3):
        assert torch.equal(again.samples(number), result.samples(number))
    # a slice whose samples were changed by one bit is done again
    path = out / "slices/0003/samples.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    module.analyze_series(network, "0", images, out=out, **OPTIONS, **place)
    assert len(calls) == 5
    assert torch.equal(again.samples(3), result.samples(3))


@pytest.mark.slow
def test_other_options_or_another_folder_are_refused(result, folder, images, network, place, tmp_path):
    with pytest.raises(ConfigError, match="samples was 5, now it is 6"):
        module.analyze_series(network, "0", images, out=folder, **{**OPTIONS, "samples": 6}, **place)
    with pytest.raises(ConfigError, match="images was"):
        module.analyze_series(network, "0", images + 1, out=folder, **OPTIONS, **place)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="no series"):
        module.analyze_series(network, "0", images, out=tmp_path, **OPTIONS, **place)
    with pytest.raises(UsageError, match="numbered 1 to 3"):
        result.samples(4)
    with pytest.raises(UsageError, match=r"layer0\.std"):
        result.tensor(1, "nothing")


def test_one_image_is_no_series(images):
    assert module.holds_series(images)
    assert not module.holds_series(images[0])
    assert not module.holds_series(None)


def test_too_little_memory_is_said_before_anything_is_sampled(images, network, place, tmp_path):
    said = []
    with pytest.raises(ResourceError, match="of memory, but only 1 MB are allowed") as caught:
        invkit.analyze(network, "0", images[0], memory="1M", say=said.append, **OPTIONS, **place)
    assert "earlier layer" in str(caught.value)
    assert [line for line in said if line.startswith("memory: at most about")]
    assert not [line for line in said if line.startswith("sampling")]
    with pytest.raises(UsageError, match=r"1\.5G"):
        invkit.analyze(network, "0", images[0], memory="much", **OPTIONS, **place)


def test_a_structure_is_not_marked_in_a_series(network, images, place, tmp_path):
    with pytest.raises(UsageError, match=r"marked in one image, and this is a series of \d+"):
        module.analyze_series(
            network, "0", images, out=tmp_path / "out", structure="5,5,10,10", **OPTIONS, **place
        )
