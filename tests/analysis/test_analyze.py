"""The whole path from an image to a saved report, at tiny sizes; every figure is checked against a direct computation."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_network import TINY_OPTIONS, Small

import invkit
from invkit.analysis.presentation import report_data
from invkit.errors import SplitError
from invkit.fiber.distance import activation_distance
from invkit.measures import table
from invkit.measures.table import Figure
from invkit.statistics.intervals import Interval
from invkit.verdict.measures import REFERENCES, Certification

OPTIONS = {**TINY_OPTIONS, "samples": 30, "refine": 8}


@pytest.fixture(scope="module")
def said():
    return []


@pytest.fixture(scope="module")
def result(place, image, network, said):
    return invkit.analyze(network, "0", image, **OPTIONS, **place, say=said.append)


@pytest.fixture(scope="module")
def deep(place, image, network, said, result):
    """Two layers; one sample of each is refined, which takes long at the output."""
    options = OPTIONS | {"samples": 8, "refine": 1}
    return invkit.analyze(network, ["0", "output"], image, **options, **place, say=said.append)


@pytest.fixture(scope="module")
def few(place, image, network, result):
    """Fewer samples of the same, when all parts have been trained, and what was said."""
    said = []
    return invkit.analyze(network, "0", image, **OPTIONS | {"samples": 7}, **place, say=said.append), said


def test_shapes_and_units_are_as_promised(result, image):
    assert result.x.shape == (1, 1, 50, 45)
    assert np.array_equal(result.x[0, 0].numpy(), image)
    assert result.raw.shape == (30, 1, 1, 50, 45)
    assert result.samples.shape == (8, 1, 1, 50, 45)
    assert result.mean.shape == result.std.shape == result.vae.shape == result.f_x.shape == (1, 1, 50, 45)
    assert [layer.layer for layer in result.layers] == ["0"]


def test_mean_and_std_are_those_of_the_samples(result):
    samples = result.samples.double()
    torch.testing.assert_close(result.mean.double(), samples.mean(0), atol=1e-3, rtol=0)
    torch.testing.assert_close(result.std.double(), samples.std(0), atol=1e-3, rtol=0)


def test_there_is_no_map_of_fewer_than_eight_certified_samples(few):
    result, _ = few
    assert len(result.samples) == len(result.certificates) == 7
    assert result.mean is result.std is None
    assert any("no map" in warning for warning in result.all_warnings)
    assert not {"layer0.certified_mean", "layer0.certified_std"} & result.tensors().keys()
    draws = result.raw.double()
    torch.testing.assert_close(result.raw_mean.double(), draws.mean(0), atol=1e-3, rtol=0)
    torch.testing.assert_close(result.raw_std.double(), draws.std(0), atol=1e-3, rtol=0)


def test_spread_and_fiber_error_follow_from_the_samples(result, network):
    layer = result.layers[0]
    spread = result.raw[:, 0].double().std(0).square().mean().sqrt().item()
    assert layer.metrics["spread_hu"]["value"] == pytest.approx(spread, rel=1e-4)
    split = invkit.Split(network, "0")
    distance = activation_distance(split.phi(result.raw[:, 0]), split.phi(result.x))
    relative = (distance.square().mean().sqrt() / layer.provenance["scale"]).item()
    assert layer.metrics["fiber_error"]["samples"]["value"] == pytest.approx(relative, rel=1e-4)
    vae = activation_distance(split.phi(result.vae), split.phi(result.x)).item() / layer.provenance["scale"]
    assert layer.metrics["fiber_error"]["vae"] == pytest.approx(vae, rel=1e-4)
    assert layer.metrics["vae_rmse_hu"] == pytest.approx(
        (result.vae - result.x).square().mean().sqrt().item(), rel=1e-4
    )


def test_f_of_every_sample_is_measured(result, network):
    with torch.no_grad():
        f = torch.cat([network(sample) for sample in result.raw[:, 0, None]]).double()
    std = result.layers[0].draws[0].f_std
    torch.testing.assert_close(std.double()[None], f.std(0, keepdim=True), atol=1e-3, rtol=1e-4)
    assert result.metrics["spread_f_hu"] == pytest.approx(f.std(0).square().mean().sqrt().item(), rel=1e-4)


def test_the_numbers_that_must_never_be_missing_are_there(result, deep):
    for layer in (*result.layers, *deep.layers):
        assert layer.metrics["fiber_error"].keys() == REFERENCES.keys()
        assert layer.metrics["ladder"]["f_error_hu"].keys() == REFERENCES.keys()
        eta = layer.metrics["noise_distance"]
        for name, value in layer.metrics["fiber_error"].items():
            relative, in_eta = (
                figure.get("value") if isinstance(figure, dict) else figure
                for figure in (value, layer.metrics["ladder"]["eta"][name])
            )
            assert in_eta == pytest.approx(relative / eta)
        assert layer.metrics["ladder"]["bank"] == 2000
        assert {"layer", "input", "const", "floor"} <= layer.metrics["nll"].keys()
        assert {"spread_hu", "spread_f_hu", "vae_rmse_hu"} <= layer.metrics.keys()
        assert any("spread of the model" in sentence for sentence in layer.verdict.samples)
        assert not any("invarian" in sentence.lower() for sentence in layer.verdict.samples)


def test_the_output_is_the_same_for_all_layers(result, deep):
    first, *others = (layer.metrics["output"] for layer in deep.layers)
    assert others and all(other == first for other in others)
    # The same image, network and seed, analysed for another layer.
    assert result.metrics["output"] == first
    assert first["noise"]["out_hu"]["value"] < first["noise"]["in_hu"]["value"]
    assert [row["radius_px"] for row in first["observer"]] == [1, 2, 4, 8][: len(first["observer"])]


def test_random_weights_are_measured_or_the_reason_is_said(result, deep):
    first, last = (each.layers[-1].metrics["random_phi"] for each in (result, deep))
    assert first.keys() == {"hidden_hu", "own_hidden_hu", "identity_hidden_hu", "redraws"}
    assert "unavailable" in last or last.keys() == first.keys()


def test_missing_parts_are_said_and_trained_once(said, deep, few):
    assert sum("training it" in line for line in said) == 5  # the VAE, two layers, input, const
    _, again = few
    assert not [line for line in again if "training it" in line]


def test_samples_do_not_depend_on_how_many_are_drawn(result, few, place, image, network):
    few, _ = few
    assert torch.equal(few.raw, result.raw[:7])
    torch.testing.assert_close(few.samples, result.samples[:7], atol=0.05, rtol=0)
    other = invkit.analyze(network, "0", image, **OPTIONS | {"samples": 7, "refine": 2}, **place, seed=1)
    assert not torch.equal(other.raw, few.raw)
    assert not torch.equal(other.samples, few.samples[:2])


def test_other_weights_are_another_layer(place, image, said):
    changed = Small()
    with torch.no_grad():
        changed[0].weight[0, 0, 0, 0] += 0.5
    lines = []
    invkit.analyze(
        changed, "0", image, **{**OPTIONS, "samples": 2, "refine": "none"}, **place, say=lines.append
    )
    assert [line for line in lines if "training it" in line]  # never the cINN of the other weights


def test_high_dose_domain_stands_beside_the_true_image(place, network):
    y = torch.zeros(1, 1, 32, 32)
    result = invkit.analyze(
        network, "0", y, **{**OPTIONS, "samples": 5, "refine": 1}, **place, domain="high", dose=0.25
    )
    assert result.domain == "high"
    assert {"samples", "true_y"} <= result.metrics["fiber_error"].keys()


def test_what_layers_retain_is_compared_in_the_order_of_depth(deep):
    assert deep.retained.layers == ("0", "output")
    for layer, retained in zip(deep.layers, deep.retained.retained, strict=True):
        const, floor = (layer.metrics["nll"][name] for name in ("const", "floor"))
        const = const["value"] if isinstance(const, dict) else const
        expected = (const - layer.provenance["nll"]) / (const - floor)
        assert retained.value == pytest.approx(expected, rel=1e-3)
        assert layer.metrics["retained_information"] == retained.to_json()
    assert set(deep.retained.reasons) <= set(deep.all_warnings)
    assert deep.to_json()["retained"]["layers"][0]["layer"] == "0"


def test_a_layer_that_is_a_number_is_refused_with_advice(place, image, network):
    with pytest.raises(SplitError, match=r"named by a string such as '3', .* got 0"):
        invkit.analyze(network, 0, image, **OPTIONS, **place)


def test_all_stands_for_the_layers_that_a_plugin_names(place, image, network):
    spec = invkit.Denoiser(
        name="small",
        build=Small,
        preprocessing=invkit.Affine(mean=0.0, std=1.0),
        layers=(invkit.Layer("first", module="0"), invkit.Layer("last", module="2")),
    )
    result = invkit.analyze(spec, "all", image, **OPTIONS | {"samples": 2, "refine": "none"}, **place)
    assert [layer.layer for layer in result.layers] == ["first", "last"]
    with pytest.raises(invkit.UsageError, match="defines no layers"):
        invkit.analyze(network, "all", image, **OPTIONS, **place)


def test_a_region_is_what_is_measured_and_shown(place, image, network, result):
    found = invkit.analyze(network, "0", image, region="5,20,30,24", **OPTIONS, **place)
    inside = (slice(20, 44), slice(5, 35))
    assert torch.equal(found.raw, result.raw)
    spread = found.raw[:, 0, 0, *inside].double().std(0).square().mean().sqrt().item()
    assert found.metrics["spread_hu"]["value"] == pytest.approx(spread, rel=1e-4)
    f_std = found.layers[0].draws[0].f_std[0, *inside].square().mean().sqrt().item()
    assert found.metrics["spread_f_hu"] == pytest.approx(f_std, rel=1e-4)
    assert found.metrics["fiber_error"] == result.metrics["fiber_error"]
    figures = report_data(found).layers[0]
    assert figures.x.shape == figures.std.shape == figures.certified_std.shape == (24, 30)
    assert figures.samples.shape[1:] == figures.swaps.shape[1:] == (24, 30)
    np.testing.assert_array_equal(figures.x, image[inside])
    assert "spreads are those of the region of 30 x 24 pixels" in found.subject.description
    with pytest.raises(invkit.UsageError, match="extends beyond the image"):
        invkit.analyze(network, "0", image, region="40,20,30,24", **OPTIONS, **place)


def test_refinement_can_be_left_out(place, image, network):
    result = invkit.analyze(network, "0", image, **OPTIONS | {"samples": 3, "refine": "none"}, **place)
    assert torch.equal(result.samples, result.raw)
    assert result.certificates == ()
    assert "certified" not in result.metrics
    with pytest.raises(invkit.UsageError, match="all or none, got 'some'"):
        invkit.analyze(network, "0", image, **OPTIONS | {"refine": "some"}, **place)


def test_certificates_are_what_phi_says(result, network):
    layer = result.layers[0]
    split = invkit.Split(network, "0")
    certified = layer.metrics["certified"]
    # S is no smaller than a hundredth of what a repeat scan changes on the average: eta is its root mean square.
    distance = (
        activation_distance(split.phi(result.samples[:, 0]), split.phi(result.x)) / layer.provenance["scale"]
    )
    assert (distance <= certified["tolerance"] * layer.metrics["noise_distance"] * 1.5).all()
    assert len(result.certificates) == len(result.samples) == certified["count"]
    assert all(row["distance"] <= certified["tolerance"] for row in result.certificates)
    frame = layer.metrics["frame_px"]
    inside = result.samples[:, 0, 0, frame:-frame, frame:-frame]
    assert certified["spread_hu"]["value"] == pytest.approx(
        inside.double().var(0).mean().sqrt().item(), rel=1e-3
    )


def test_samples_of_a_model_are_witnesses_once_they_are_refined(result):
    layer = result.layers[0]
    found = layer.metrics["witnesses"]
    assert found["refined"] == len(layer.witnesses[0].images) == 8
    assert found["count"] == sum(row["certified"] for row in layer.witnesses[0].rows(0))
    assert found["distance_before"]["value"] > found["tolerance"]
    assert len(result.to_json()["layers"]["0"]["witnesses"]) == 8


def test_all_controls_train_a_model_for_random_weights(place, image, network, result):
    said = []
    changes = {"samples": 4, "refine": "none", "controls": "full"}
    full = invkit.analyze(network, "0", image, **OPTIONS | changes, **place, say=said.append)
    assert sum("training it" in line for line in said) == 1
    found = full.metrics["random_phi"]
    assert found.keys() == {"noise_distance", "spread_hu", "fiber_error", "nll"}
    assert found["spread_hu"]["value"] > 0


def test_a_run_folder_holds_everything_and_is_never_overwritten(result, tmp_path):
    folder = result.save(tmp_path / "run")
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("report.html", "report.json", "samples.safetensors"):
        assert name in manifest["files"]
    saved = load_file(folder / "samples.safetensors")
    assert torch.equal(saved["layer0.samples"], result.raw)
    assert torch.equal(saved["layer0.certified"], result.samples)
    with pytest.raises(invkit.UsageError, match="never overwritten"):
        result.save(folder)


def test_the_report_is_one_page_without_the_word(result, tmp_path):
    page = result.report(tmp_path / "report.html").read_text()
    assert "spread of the model" in page
    assert 'src="http' not in page


def test_a_new_figure_touches_its_measure_and_the_table_alone(result, tmp_path, monkeypatch):
    """The key that a measure gives and one line of `figures.csv` are enough for report, JSON and CSV."""
    line = Figure("certified.novelty", "Novelty of the images", "HU", "how new they are")
    given = Certification.figures
    monkeypatch.setattr(
        Certification, "figures", lambda self: {**given(self), "novelty": Interval(2.5, 2.0, 3.0)}
    )
    lines = {**table.known(), line.key: line}
    monkeypatch.setattr(table, "_table", lambda: lines)
    fresh = replace(result, layers=tuple(map(replace, result.layers)))
    assert fresh.metrics["certified"]["novelty"] == {"value": 2.5, "low": 2.0, "high": 3.0}
    fresh.save(tmp_path / "run")
    page, csv = ((tmp_path / "run" / name).read_text() for name in ("report.html", "figures.csv"))
    assert "Novelty of the images" in page and "how new they are" in page
    assert "0,certified.novelty,Novelty of the images,HU,2.5,2.0,3.0,how new they are" in csv
    assert json.loads((tmp_path / "run" / "report.json").read_bytes())["layers"][0]["metrics"]["certified"]


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"samples": 1}, invkit.UsageError, "at least 2"),
        ({"controls": "some"}, invkit.UsageError, "controls is standard or full"),
        ({"domain": "middle"}, invkit.UsageError, "low"),
        ({"layer": "7"}, invkit.SplitError, "7"),
        ({"data": "/none/such.dcm"}, invkit.ImageError, "such.dcm"),
        ({"data": np.full((40, 40), np.nan)}, invkit.ImageError, "finite"),
    ],
)
def test_bad_calls_are_one_typed_error(place, network, image, change, error, match):
    call = {"layer": "0", "data": image, **OPTIONS, **place, **change}
    with pytest.raises(error, match=match):
        invkit.analyze(network, **call)
