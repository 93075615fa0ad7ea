"""Patches with physically simulated noise: levels, independence, and that nothing else about them changes."""

import math

import numpy as np
import pytest
import torch
from dose_noise import noisy_pair

from invkit.data.dose.rays import noise_realisations, simulate_dose
from invkit.data.dose.scanner import Scanner
from invkit.data.fields import DoseFields, dose_fields, one_realisation
from invkit.data.patches import PatchSampler
from invkit.data.slices import load_slices
from invkit.errors import UsageError
from invkit.training.processes.workers import side_by_side

SIZE = 96


@pytest.fixture(scope="module")
def phantoms(place):
    return load_slices(["phantoms:6"], size=SIZE, cache=place["cache"] / "phantoms")


def soft(image):
    return (image > -200) & (image < 200)


def test_both_doses_have_the_noise_that_the_slice_states(phantoms):
    ratios, own = [], []
    for item in phantoms.slices:
        fields = dose_fields(item, 0.25)
        assert fields.own.shape == fields.added.shape == (2, SIZE, SIZE)
        tissue = soft(item.clean)
        own.append(fields.own[:, tissue].astype(np.float64).std() / item.noise)
        ratios.append(
            fields.added[:, tissue].astype(np.float64).std() / fields.own[:, tissue].astype(np.float64).std()
        )
    assert np.mean(own) == pytest.approx(1, abs=0.15)
    assert np.mean(ratios) == pytest.approx(math.sqrt(3), abs=0.1)


def test_realisations_and_doses_are_independent_and_come_back(phantoms):
    item = phantoms.slices[0]
    fields, again = dose_fields(item, 0.25), dose_fields(item, 0.25)
    assert np.array_equal(fields.own, again.own)
    assert np.array_equal(fields.added, again.added)
    all_four = np.concatenate([fields.own, fields.added]).reshape(4, -1).astype(np.float64)
    correlation = np.corrcoef(all_four) - np.eye(4)
    assert np.abs(correlation).max() < 0.1


def test_a_mixture_keeps_the_variance():
    fields = np.random.default_rng(0).normal(0, 20, (2, 200, 200)).astype(np.float16)
    for word in (0, 2**62, 2**63 + 12345, 2**64 - 1):
        mixed = DoseFields.mix(fields, word)
        assert mixed.dtype == np.float32
        assert mixed.std() == pytest.approx(20, rel=0.02)
    np.testing.assert_allclose(DoseFields.mix(fields, 0), fields[0], atol=1e-3)


def test_patches_differ_from_the_plain_ones_in_their_noise_alone(phantoms):
    plain, physical = (PatchSampler(slices, 48, seed=3) for slices in (phantoms, phantoms.simulated()))
    a, b = plain.batch(2, 24), physical.batch(2, 24)
    assert torch.equal(a.clean, b.clean)
    assert torch.equal(a.patient, b.patient)
    assert torch.equal(a.noise, b.noise)
    assert not torch.equal(a.y, b.y)
    body = soft(b.clean)
    for noisy, level in ((b.y - b.clean, 1.0), (b.x - b.y, math.sqrt(3))):
        relative = noisy / (a.noise / math.sqrt(3)).view(-1, 1, 1, 1)
        assert float(relative[body].std()) == pytest.approx(level, rel=0.3)
    assert torch.equal(b.x, PatchSampler(phantoms.simulated(), 48, seed=3).batch(2, 24).x)
    assert torch.equal(b.x[4:8], physical.batch(2, 24, slice(4, 8)).x)


def test_batches_are_the_same_side_by_side_and_noise_is_simulated_once(phantoms, monkeypatch):
    alone = PatchSampler(phantoms.simulated(), 48, seed=3)
    wanted = [alone.batch(step, 6).x for step in range(8)]
    simulated = []

    def counted(item, dose, keep):
        simulated.append(id(item))
        return dose_fields(item, dose, keep)

    monkeypatch.setattr("invkit.data.patches.dose_fields", counted)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        sampler = PatchSampler(phantoms.simulated(), 48, seed=3)
        found = list(side_by_side(8, lambda step, _: sampler.batch(step, 6).x, None))
        assert len(simulated) == len(set(simulated)) == 6
        prepared = PatchSampler(phantoms.simulated(), 48, seed=3)
        prepared.prepare(range(8), 6)
        assert len(simulated) == 12
        again = [prepared.batch(step, 6).x for step in range(8)]
        assert len(simulated) == 12
    finally:
        torch.set_num_threads(threads)
    for batches in (found, again):
        assert all(torch.equal(one, other) for one, other in zip(batches, wanted, strict=True))


def test_ct_keeps_its_own_noise(tmp_path):
    phantom = load_slices(["phantoms:1"], size=SIZE).slices[0]
    np.save(tmp_path / "slice.npy", phantom.image)
    slices = load_slices([tmp_path])
    plain, physical = (PatchSampler(each, 48, seed=3) for each in (slices, slices.simulated()))
    a, b = plain.batch(0, 8), physical.batch(0, 8)
    assert torch.equal(a.y, b.y)
    assert not torch.equal(a.x, b.x)
    assert b.clean is None
    full = PatchSampler(slices.simulated(), 48, dose=1, seed=3).batch(0, 8)
    assert torch.equal(full.x, full.y)


def test_full_dose_adds_nothing():
    item = load_slices(["phantoms:1"], size=SIZE).slices[0]
    with pytest.raises(UsageError, match="in \\(0, 1\\)"):
        dose_fields(item, 1)


def test_simulated_slices_are_other_data_with_the_same_split(phantoms):
    simulated = phantoms.simulated()
    assert simulated.fingerprint != phantoms.fingerprint
    assert simulated.part("train").noise == "physical"
    assert simulated.part("train").fingerprint != phantoms.part("train").fingerprint
    assert simulated.split == phantoms.split
    assert "simulated on the rays" in simulated.description


@pytest.mark.parametrize("physical", [False, True])
def test_another_scan_has_the_same_full_dose_and_other_noise(phantoms, physical):
    sampler = PatchSampler(phantoms.simulated() if physical else phantoms, 48, seed=3)
    first, second, third = (sampler.batch(1, 16, redraw=number) for number in range(3))
    assert torch.equal(first.y, second.y)
    assert torch.equal(sampler.batch(1, 16).x, first.x)
    noises = [(each.x - each.y).flatten() for each in (first, second, third)]
    assert not torch.equal(noises[1], noises[2])
    assert float(noises[1].std() / noises[2].std()) == pytest.approx(1, abs=0.1)
    assert torch.equal(sampler.batch(1, 16, slice(3, 5), redraw=2).x, third.x[3:5])


@pytest.mark.parametrize("physical_truth", [True, False])
def test_realisations_are_those_of_the_simulator(phantoms, physical_truth):
    item = phantoms.slices[1]
    image = torch.from_numpy(item.clean)[None, None]
    given, scanner = {"dose": 0.25, "noise": item.noise}, {"electronic": 0.0, "kernel": "sharp"}
    own, added = noise_realisations(
        image, item.spacing, seeds=[3, 8], clean=physical_truth, scanner=Scanner(**scanner), **given
    )
    for number, seed in enumerate((3, 8)):
        if physical_truth:
            y, x = noisy_pair(image, item.spacing, seed=seed, **given, **scanner)
            torch.testing.assert_close(own[number], (y - image)[0], atol=1e-3, rtol=0)
        else:
            assert own is None
            y, x = image, simulate_dose(image, item.spacing, seed=seed, scanner=Scanner(**scanner), **given)
        torch.testing.assert_close(added[number], (x - y)[0], atol=1e-3, rtol=0)


def test_what_is_kept_is_read_and_never_trusted_blindly(phantoms, tmp_path, monkeypatch):
    item = phantoms.slices[0]
    fields = dose_fields(item, 0.25, tmp_path)
    (file,) = tmp_path.iterdir()
    fresh = dose_fields(item, 0.25)
    assert np.array_equal(fields.own, fresh.own)
    monkeypatch.setattr("invkit.data.fields.noise_realisations", None)
    kept = dose_fields(item, 0.25, tmp_path)
    assert np.array_equal(kept.own, fresh.own)
    assert np.array_equal(kept.added, fresh.added)
    assert isinstance(kept.own, np.memmap)
    for needed in ((item, 0.5), (phantoms.slices[1], 0.25)):
        with pytest.raises(TypeError):
            dose_fields(*needed, tmp_path)
    file.write_bytes(file.read_bytes()[:1000])
    monkeypatch.undo()
    assert np.array_equal(dose_fields(item, 0.25, tmp_path).own, fresh.own)


def test_a_folder_that_cannot_be_written_is_no_error(phantoms, tmp_path):
    (tmp_path / "file").write_text("")
    assert dose_fields(phantoms.slices[0], 0.25, tmp_path / "file").own is not None


def test_one_draw_has_the_level_of_the_slice(phantoms):
    item = phantoms.slices[2]
    own, added = one_realisation(item, 0.25, 5)
    tissue = soft(item.clean)
    assert own[tissue].std() == pytest.approx(item.noise, rel=0.3)
    assert added[tissue].std() / own[tissue].std() == pytest.approx(math.sqrt(3), rel=0.15)
    assert not np.array_equal(own, one_realisation(item, 0.25, 6)[0])
