"""Where trained parts are found: by what they were trained on, with a plugin first, then in the cache."""

from dataclasses import replace

import pytest
import torch

from invkit.artifacts import save
from invkit.errors import ArtifactError, ResourceError
from invkit.parts.store import Store
from invkit.plugins.records import Artifact

REQUEST = {"kind": "vae", "data": "abc", "config": {"d": 256, "betas": [0.9, 0.99]}, "seed": 0}


class Host:
    """A plugin host that brings these artefacts."""

    def __init__(self, *artifacts: Artifact):
        self._artifacts = artifacts

    def artifacts(self) -> tuple[Artifact, ...]:
        return self._artifacts


def stored(path, key: str, kind: str = "vae", value: float = 0.0, *, declared: bool = True) -> Artifact:
    """Write a trained part and return the record with which a plugin brings it."""
    meta = {"key": key, "note": "test"}
    sha256 = save(path, {"weight": torch.tensor([value])}, kind=kind, meta=meta)
    return Artifact(kind, str(path), sha256, meta=meta if declared else {})


def test_a_key_is_a_function_of_the_request_alone():
    key = Store.key(REQUEST)
    assert len(key) == 64
    assert key == Store.key(dict(reversed(REQUEST.items())))
    assert key == Store.key({**REQUEST, "config": {"betas": (0.9, 0.99), "d": 256}})
    others = [
        {**REQUEST, "seed": 1},
        {**REQUEST, "seed": "0"},
        {**REQUEST, "config": {"d": 256, "betas": [0.99, 0.9]}},
        {**REQUEST, "more": None},
        {name: value for name, value in REQUEST.items() if name != "data"},
    ]
    assert len({Store.key(other) for other in others} | {key}) == len(others) + 1


def test_paths_lie_below_the_root_and_differ_by_kind_and_key(tmp_path):
    store = Store(Host(), tmp_path)
    keys = [Store.key({"seed": seed}) for seed in range(3)]
    paths = {store.path(kind, key) for kind in ("vae", "cinn") for key in keys}
    folders = {store.work(kind, key) for kind in ("vae", "cinn") for key in keys}
    assert len(paths) == len(folders) == 6
    assert all(tmp_path in path.parents for path in paths | folders)
    assert all(path.suffix == ".safetensors" for path in paths)
    assert not any(folder in path.parents for path in paths for folder in folders)


def test_the_cache_is_named_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("INVKIT_CACHE", str(tmp_path / "mine"))
    assert Store(Host()).root == tmp_path / "mine"
    assert Store(Host(), tmp_path).root == tmp_path
    monkeypatch.delenv("INVKIT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert Store(Host()).root == tmp_path / ".cache" / "invkit"


def test_no_home_is_one_typed_error(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("INVKIT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", no_home)
    with pytest.raises(ResourceError, match="INVKIT_CACHE"):
        Store(Host())


def test_a_cache_that_cannot_be_written_is_named_with_its_variable(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INVKIT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ResourceError, match=r"cannot write in .*cache.*INVKIT_CACHE"):
        Store(Host()).keep({"kind": "vae"}, lambda *_: pytest.fail("nothing can be kept"))


def test_what_nobody_trained_is_not_found(tmp_path):
    store, key = Store(Host(), tmp_path), Store.key(REQUEST)
    assert store.find("vae", key) is None
    assert not any(tmp_path.iterdir())


def test_the_cache_gives_what_was_kept_under_the_key(tmp_path):
    store, key = Store(Host(), tmp_path), Store.key(REQUEST)
    stored(store.path("vae", key), key)
    assert store.find("vae", key) == (store.path("vae", key), None)
    assert store.find("cinn", key) is None
    assert store.find("vae", Store.key({})) is None


def test_a_file_whose_writing_was_cut_short_is_not_found(tmp_path):
    store, key = Store(Host(), tmp_path), Store.key(REQUEST)
    path = store.path("vae", key)
    stored(path, key)
    path.with_suffix(".json").unlink()
    assert store.find("vae", key) is None
    stored(path, key)
    path.unlink()
    assert store.find("vae", key) is None


@pytest.mark.parametrize("declared", [True, False])
def test_a_plugins_part_goes_before_the_caches(tmp_path, declared):
    key = Store.key(REQUEST)
    brought = stored(tmp_path / "plugin" / "vae.safetensors", key, declared=declared)
    store = Store(Host(brought), tmp_path / "cache")
    stored(store.path("vae", key), key, value=1.0)
    assert store.find("vae", key) == (tmp_path / "plugin" / "vae.safetensors", brought.sha256)


def test_a_record_that_says_other_things_leaves_the_key_to_the_file(tmp_path):
    key = Store.key(REQUEST)
    brought = replace(stored(tmp_path / "vae.safetensors", key), meta={"default_for": "low"})
    assert Store(Host(brought), tmp_path).find("vae", key) == (tmp_path / "vae.safetensors", brought.sha256)


def test_a_plugins_part_of_another_kind_or_key_is_passed_over(tmp_path):
    key = Store.key(REQUEST)
    artifacts = [
        stored(tmp_path / "a.safetensors", key, kind="cinn"),
        stored(tmp_path / "b.safetensors", Store.key({})),
        stored(tmp_path / "c.safetensors", Store.key({}), declared=False),
        stored(tmp_path / "d.safetensors", key),
        stored(tmp_path / "e.safetensors", key, value=2.0),
    ]
    assert Store(Host(*artifacts), tmp_path).find("vae", key) == (
        tmp_path / "d.safetensors",
        artifacts[3].sha256,
    )


def test_a_broken_artefact_of_one_plugin_does_not_hide_those_of_others(tmp_path):
    key = Store.key(REQUEST)
    unreadable = stored(tmp_path / "unreadable.safetensors", key, declared=False)
    (tmp_path / "unreadable.json").write_text("{")
    gone = Artifact("vae", str(tmp_path / "gone.safetensors"), "0" * 64)
    elsewhere = Artifact("vae", str(tmp_path / "gone.safetensors"), "0" * 64, meta={"key": "other"})
    good = stored(tmp_path / "good.safetensors", key)
    store = Store(Host(unreadable, gone, elsewhere, good), tmp_path / "cache")
    assert store.find("vae", key) == (tmp_path / "good.safetensors", good.sha256)


def test_a_part_that_a_plugin_promises_and_lacks_is_an_error(tmp_path):
    """To train it anew without a word would take long and give other numbers than the plugin's."""
    key = Store.key(REQUEST)
    promised = Artifact("vae", str(tmp_path / "gone.safetensors"), "0" * 64, meta={"key": key})
    with pytest.raises(ArtifactError, match="Reinstall the plugin"):
        Store(Host(promised), tmp_path / "cache").find("vae", key)
