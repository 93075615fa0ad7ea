from typing import ClassVar

import numpy as np
import pytest

from invkit.data.prepare.prepare import prepare
from invkit.data.slices import load_slices
from invkit.errors import DataError, PluginError, UsageError
from invkit.plugins.gather import gather
from invkit.plugins.hookspecs import hookimpl
from invkit.plugins.manager import PluginHost
from invkit.plugins.records import Source

SECRET = "CANARY^PATIENT"


class Plugin:
    """Brings sources good and bad."""

    opened: ClassVar[list[tuple[str, int]]] = []

    @hookimpl
    def invkit_sources(self):
        def ward(spec, seed):
            self.opened.append((spec, seed))
            return load_slices([f"phantoms:{spec or 3}"], seed=seed + 1000)

        def broken(spec, seed):
            raise RuntimeError(SECRET)

        return [
            Source("ward", ward),
            Source("broken", broken),
            Source("wrong", lambda spec, seed: [1, 2]),
            Source("empty", lambda spec, seed: load_slices(["phantoms:1"]).part("test")),
        ]


@pytest.fixture
def host():
    host = PluginHost(installed=False)
    Plugin.opened = []
    host.add_object(Plugin(), name="sources")
    return host


@pytest.fixture
def ct(tmp_path):
    path = tmp_path / "ct.npy"
    np.save(path, np.random.default_rng(0).normal(0, 30, (2, 64, 64)).astype(np.float32))
    return path


@pytest.mark.parametrize("specs", [None, [], "phantoms:4", ["phantoms:4"], "CT", ["phantoms:4", "CT"]])
def test_what_needs_no_plugin_is_what_load_slices_gives(specs, host, ct):
    def put(spec):
        return ct if spec == "CT" else spec

    specs = [put(spec) for spec in specs] if isinstance(specs, list) else put(specs)
    found, wanted = gather(specs, host, 5), load_slices(specs, seed=5)
    assert found.fingerprint == wanted.fingerprint
    assert found.description == wanted.description
    assert [item.patient for item in found.slices] == [item.patient for item in wanted.slices]


def test_a_set_that_is_open_stays_as_it_is(host):
    slices = load_slices("phantoms:2")
    assert gather(slices, host, 5) is slices


def test_a_source_gets_the_rest_of_its_name_and_the_seed(host):
    alone = gather("ward:5", host, 7)
    assert Plugin.opened == [("5", 7)]
    assert alone.fingerprint == load_slices(["phantoms:5"], seed=1007).fingerprint
    gather(["ward"], host, 7)
    assert Plugin.opened[-1] == ("", 7)


def test_sources_and_paths_make_one_set_whatever_their_order(host, ct):
    one, other = (
        gather(["ward:5", ct, "phantoms:4"], host, 0),
        gather(["phantoms:4", str(ct), "ward:5"], host, 0),
    )
    assert len(one.slices) == 5 + 2 + 4
    assert one.fingerprint == other.fingerprint
    assert len({gather(specs, host, 0).fingerprint for specs in (["ward:5"], ["ward:5", ct], [ct])}) == 3
    assert "2 CT slices" in one.description


def test_a_cache_is_a_path_like_others(host, ct, tmp_path):
    (tmp_path / "arrays").mkdir()
    for number in range(3):
        full = np.random.default_rng(number).normal(0, 30, (32, 32)).astype(np.float32)
        for kind, image in (("full", full), ("low", full + 5)):
            np.save(tmp_path / "arrays" / f"{number}_{kind}.npy", image)
    prepare([tmp_path / "arrays"], tmp_path / "cache")
    alone = gather(tmp_path / "cache", host, 0)
    assert alone.fingerprint == load_slices(tmp_path / "cache").fingerprint
    assert "3 CT slices of 3 patients from a cache, all with a real low-dose partner" in alone.description
    one, other = (
        gather(specs, host, 0)
        for specs in (["ward:5", tmp_path / "cache", ct], [str(ct), str(tmp_path / "cache"), "ward:5"])
    )
    assert one.fingerprint == other.fingerprint
    assert one.split == other.split == one.part("train").split
    assert len(one.slices) == 5 + 3 + 2


def test_a_name_goes_before_a_folder_of_that_name(host, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ward").mkdir()
    assert len(gather("ward", host, 0).slices) == 3
    with pytest.raises(DataError, match="contains no CT slice"):
        gather("./ward", host, 0)


@pytest.mark.parametrize(
    ("specs", "error", "message"),
    [
        ("broken", PluginError, "data source broken raised RuntimeError"),
        ("wrong:1", PluginError, "must return an invkit.SliceSet, got a list"),
        ("empty", DataError, "data source empty holds no slices"),
        (["ward", "ward:3"], UsageError, "given twice"),
        ("nowhere", DataError, "nowhere does not exist"),
    ],
)
def test_faults_are_named(specs, error, message, host):
    with pytest.raises(error, match=message) as caught:
        gather(specs, host, 0)
    assert SECRET not in str(caught.value)


def test_noise_is_made_as_asked():
    host = PluginHost(installed=False)
    image, physical = (gather(["phantoms:3"], host, 0, noise) for noise in ("image", "physical"))
    assert (image.noise, physical.noise) == ("image", "physical")
    assert image.fingerprint == gather(["phantoms:3"], host, 0).fingerprint != physical.fingerprint
    assert gather(physical, host, 0) is physical
    with pytest.raises(UsageError, match="physical"):
        gather(None, host, 0, "none")


def test_phantoms_are_kept_beside_their_noise_and_come_back_equal(tmp_path):
    host = PluginHost(installed=False)
    first, again, without = (
        gather(["phantoms:2"], host, 0, keep=keep) for keep in (tmp_path, tmp_path, None)
    )
    images = [item.clean for item in first.slices]
    assert len(list((tmp_path / "phantoms").iterdir())) == 2
    for other in (again, without):
        assert other.fingerprint == first.fingerprint
        assert all((a == b.clean).all() for a, b in zip(images, other.slices, strict=True))
