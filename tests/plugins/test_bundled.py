"""The trained parts that ship meet their floors; all figures are measured here or stand in their checked files."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import invkit
from invkit import artifacts
from invkit.data.patches import PatchSampler
from invkit.data.slices import SliceSet, load_slices
from invkit.errors import ArtifactError
from invkit.flow.store import cinn_from
from invkit.parts.config import LayerConfig
from invkit.plugins.load import load
from invkit.plugins.manager import default_host
from invkit.quality.quality import denoising_quality
from invkit.statistics.intervals import paired_difference
from invkit.vae.trained import load_vae

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 25 * 2**20

vaes = pytest.mark.parametrize("domain", ["low", "high"])


def bundled(kind):
    return [artifact for artifact in default_host().artifacts() if artifact.kind == kind]


def stored(artifact):
    return artifacts.load(artifact.locate(), kind=artifact.kind, sha256=artifact.sha256)


def vae(domain):
    (found,) = [stored(a) for a in bundled("vae") if a.meta.get("default_for") == domain]
    return found


def cinn(layer, module=None):
    (found,) = [
        part
        for part in map(stored, bundled("cinn"))
        if part.meta["layer"] == layer
        and part.meta["domain"] == "low"
        and (module is None or module in str(part.meta["phi"]))
    ]
    return found


def value(figure):
    """Return a figure that is a number, or a number with its interval."""
    return figure["value"] if isinstance(figure, dict) else figure


def denoiser(name):
    return load(f"{name}.bundled")


def test_all_files_together_stay_under_25_megabytes():
    folders = [ROOT / "invkit/bundled", *ROOT.glob("plugins/*/*/trained")]
    assert (
        sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file()) < LIMIT
    )


@vaes
def test_a_vae_beats_pca_with_as_many_numbers(domain):
    held_out = vae(domain).meta["held_out"]
    assert held_out["pca"]["components"] == vae(domain).meta["config"]["d"]
    assert held_out["rmse_hu"] < held_out["pca"]["rmse_hu"]


@vaes
def test_band_energies_of_a_vae_are_those_of_images(domain):
    bands = vae(domain).meta["held_out"]["bands"]
    assert len(bands) == 10
    assert min(bands) >= 0.4
    assert max(bands) <= 1.6


@vaes
def test_no_patient_and_no_path_stands_in_provenance(domain):
    text = str(vae(domain).meta)
    assert "/" not in text.replace("1/", "")
    assert "COVID" not in text


def test_likelihoods_are_in_the_order_that_theory_demands():
    rows = {name: cinn(name) for name in ("input", "3", "const")}
    patients = rows["3"].tensors["patients"].tolist()
    for lower, higher in (("input", "3"), ("3", "const")):
        a, b = (rows[name].tensors["nll_rows"].double().numpy() for name in (higher, lower))
        gap = paired_difference(a, b)
        assert gap.value > 3 * gap.standard_error, (lower, higher, gap)
        assert paired_difference(a, b, patients).value > 0
    assert rows["input"].meta["nll"] > rows["input"].meta["floor"]
    assert all(math.isfinite(row.meta["scale"]) for row in rows.values())
    assert np.isfinite(rows["3"].tensors["nll_rows"].numpy()).all()


@pytest.fixture(scope="module")
def held_out_phantoms(tmp_path_factory):
    return load_slices(["phantoms"]).simulated(tmp_path_factory.mktemp("noise")).part("test")


@pytest.fixture(scope="module")
def phantoms(held_out_phantoms):
    return PatchSampler(held_out_phantoms, 128, seed=5)


@pytest.mark.parametrize(("name", "floor"), [("chen2017", 0.4), ("yang2018", 0.25)])
def test_noise_of_whole_held_out_phantoms_is_cut(name, floor, held_out_phantoms):
    slices = PatchSampler(held_out_phantoms, 512, seed=3)
    assert value(denoising_quality(denoiser(name), slices, patches=16)["rmse_cut"]) >= floor


@pytest.mark.parametrize(("name", "floor"), [("chen2017", 0.35), ("yang2018", 0.2)])
def test_noise_of_patches_full_of_body_is_cut(name, floor, phantoms):
    assert value(denoising_quality(denoiser(name), phantoms, patches=48)["rmse_cut"]) >= floor


@pytest.fixture(scope="module")
def held_out_ct(real_ct):
    slices = load_slices([real_ct]).simulated()
    held_out = SliceSet(
        slices.part("validation").slices + slices.part("test").slices, "", "held-out CT", noise="physical"
    )
    return PatchSampler(held_out, 128, seed=5)


@pytest.mark.realdata
def test_noise_of_real_slices_is_cut(held_out_ct):
    found = denoising_quality(denoiser("chen2017"), held_out_ct, patches=48)
    assert value(found["rmse_cut"]) >= 0.2


def nps_distances(sampler, patches):
    return [
        value(denoising_quality(denoiser(name), sampler, patches=patches)["nps_distance_db"])
        for name in ("yang2018", "chen2017")
    ]


@pytest.mark.realdata
def test_noise_of_yang2018_has_a_spectrum_nearer_to_full_dose_than_chen2017s_on_ct(held_out_ct):
    yang, chen = nps_distances(held_out_ct, 96)
    assert yang < chen


def test_noise_of_yang2018_has_a_spectrum_nearer_to_full_dose_than_chen2017s_on_phantoms(phantoms):
    yang, chen = nps_distances(phantoms, 64)
    assert yang < chen


def test_the_inverse_of_the_bundled_flows_is_exact():
    """For codes and conditions of held-out images, both ways round, in fp32."""
    images = PatchSampler(load_slices(["phantoms:12"]).part("test"), 128).batch(0, 24).x
    (file,) = [artifact.locate() for artifact in bundled("vae") if artifact.meta.get("default_for") == "low"]
    v = torch.randn(24, 256, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        posterior = load_vae(file).vae.encode(images)
        condition = torch.cat([posterior.mean, posterior.log_var], dim=1)
        for part in map(stored, bundled("cinn")):
            tensors = {name[5:]: tensor for name, tensor in part.tensors.items() if name.startswith("cinn.")}
            flow = cinn_from(tensors, part.meta["cinn"])
            h = flow.embed(condition)
            assert (flow.inverse(flow(posterior.mean, h)[0], h) - posterior.mean).abs().max() < 1e-4
            assert (flow(flow.inverse(v, h), h)[0] - v).abs().max() < 1e-4


def test_training_data_of_another_split_are_refused_before_anything_is_trained(tmp_path):
    said = []
    options = {"train_data": ["phantoms:12"], "config": LayerConfig.preset("tiny"), "vae_preset": "tiny"}
    with pytest.raises(ArtifactError, match="different splits"):
        invkit.analyze("chen2017.bundled", "1", cache=tmp_path, say=said.append, **options)
    assert said == []
