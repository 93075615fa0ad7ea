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
from invkit.images.flat import flat_regions, noise_in
from invkit.images.spectrum import power_spectrum
from invkit.parts.config import LayerConfig
from invkit.plugins.load import load
from invkit.plugins.manager import default_host
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
    for lower, higher in (("input", "3"), ("3", "const")):
        a, b = (rows[name].tensors["nll_rows"].double().numpy() for name in (higher, lower))
        gap = a - b
        assert gap.mean() > 3 * gap.std(ddof=1) / math.sqrt(len(gap)), (lower, higher)
    assert rows["input"].meta["nll"] > rows["input"].meta["floor"]
    assert all(math.isfinite(row.meta["scale"]) for row in rows.values())
    assert np.isfinite(rows["3"].tensors["nll_rows"].numpy()).all()


@pytest.fixture(scope="module")
def held_out_phantoms(place):
    cache = place["cache"]
    return load_slices(["phantoms"], cache=cache / "phantoms").simulated(cache / "noise").part("test")


@pytest.fixture(scope="module")
def phantoms(held_out_phantoms):
    return PatchSampler(held_out_phantoms, 128, seed=5)


def denoised(network, x):
    with torch.no_grad():
        return network(x)


def error_cut(name, sampler, batches, patches=16):
    """Return by what part a denoiser cuts the RMSE of all patches, against the noise-free image where there is one."""
    network, before, after = denoiser(name), [], []
    for step in range(batches):
        batch = sampler.batch(step, patches)
        truth = batch.y if batch.clean is None else batch.clean
        before.append((batch.x - truth).double().square().mean())
        after.append((denoised(network, batch.x) - truth).double().square().mean())
    return 1 - math.sqrt(sum(after) / sum(before))


@pytest.mark.parametrize(("name", "floor"), [("chen2017", 0.4), ("yang2018", 0.25)])
def test_noise_of_whole_held_out_phantoms_is_cut(name, floor, held_out_phantoms):
    assert error_cut(name, PatchSampler(held_out_phantoms, 512, seed=3), 1, patches=6) >= floor


@pytest.mark.parametrize(("name", "floor"), [("chen2017", 0.35), ("yang2018", 0.2)])
def test_noise_of_patches_full_of_body_is_cut(name, floor, phantoms):
    assert error_cut(name, phantoms, 3) >= floor


@pytest.fixture(scope="module")
def held_out_ct(real_ct):
    slices = load_slices([real_ct]).simulated()
    held_out = SliceSet(
        slices.part("validation").slices + slices.part("test").slices, "", "held-out CT", noise="physical"
    )
    return PatchSampler(held_out, 128, seed=5)


@pytest.mark.realdata
def test_noise_of_real_slices_is_cut(held_out_ct):
    assert error_cut("chen2017", held_out_ct, 3) >= 0.2


def spectrum_distance(name, sampler, batches):
    """Return how far the noise left in flat tissue is from that of full dose: root mean square over bands, dB."""
    network, noises = denoiser(name), ([], [])
    for step in range(batches):
        batch = sampler.batch(step, 16)
        if len(regions := flat_regions(batch.y)):
            for noise, images in zip(noises, (denoised(network, batch.x), batch.y), strict=True):
                noise.append(noise_in(images, regions))
    left, full = (np.array(power_spectrum(torch.cat(noise)).power) for noise in noises)
    return math.sqrt(np.square(10 * np.log10(left / full)).mean())


@pytest.mark.realdata
def test_noise_of_yang2018_has_a_spectrum_nearer_to_full_dose_than_chen2017s_on_ct(held_out_ct):
    assert spectrum_distance("yang2018", held_out_ct, 6) < spectrum_distance("chen2017", held_out_ct, 6)


def test_noise_of_yang2018_has_a_spectrum_nearer_to_full_dose_than_chen2017s_on_phantoms(phantoms):
    assert spectrum_distance("yang2018", phantoms, 4) < spectrum_distance("chen2017", phantoms, 4)


def test_the_inverse_of_the_bundled_flows_is_exact(place):
    """For codes and conditions of held-out images, both ways round, in fp32."""
    phantoms = load_slices(["phantoms:12"], cache=place["cache"] / "phantoms")
    images = PatchSampler(phantoms.part("test"), 128).batch(0, 24).x
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
