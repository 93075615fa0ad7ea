import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from invkit.denoisers.weights.state import state_of
from invkit.errors import ArtifactError


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": {"params": s}}]
)
def test_tensors_come_out_as_they_went_in(tmp_path, wrap):
    state = torch.nn.Conv2d(1, 2, 3).state_dict()
    torch.save(wrap(state), tmp_path / "a.pt")
    for data in ((tmp_path / "a.pt").read_bytes(), save(dict(state))):
        found = state_of(data, label="a.pt")
        assert found.keys() == state.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil-ran",)


def test_code_in_a_pickle_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(1), "evil": Evil()}, "a.pt")
    with pytest.raises(ArtifactError, match="only tensors"):
        state_of(Path("a.pt").read_bytes(), label="a.pt")
    assert not Path("evil-ran").exists()


@pytest.mark.parametrize(
    "content", [b"", b"not a file of torch", b"PK\x03\x04broken", b"\xff\0\0\0\0\0\0\0{damaged"]
)
def test_what_is_no_state_dict_is_one_error(content):
    with pytest.raises(ArtifactError, match=r"^a\.pt "):
        state_of(content, label="a.pt")


def test_other_contents_are_refused(tmp_path):
    torch.save([1, 2], tmp_path / "a.pt")
    with pytest.raises(ArtifactError, match="no state dict"):
        state_of((tmp_path / "a.pt").read_bytes(), label="a.pt")
    torch.save({"weight": torch.eye(2).to_sparse()}, tmp_path / "a.pt")
    with pytest.raises(ArtifactError, match="weight is a sparse"):
        state_of((tmp_path / "a.pt").read_bytes(), label="a.pt")


def itself():
    loaded = {"a": torch.zeros(1)}
    loaded["model"] = loaded
    return loaded | {"step": 3}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"a": torch.zeros(1).expand(10**12)}, r"a of shape \(1000000000000,\) repeats fewer numbers"),
        ({"a": torch.zeros(3, 1, 3, 3).expand(3, 10**6, 3, 3)}, "repeats fewer numbers"),
        ({"a": torch.empty(10**12, device="meta")}, "a has a shape but no numbers"),
        ({f"a{i}": torch.zeros(2**20).view(-1) for i in range(2)} | {"b": [1, 2]}, "contains no state dict"),
        ({"a": 1, "b": "text"}, "contains no state dict"),
        ({"a": {"b": torch.zeros(1)}}, "contains no state dict"),
        ([torch.zeros(1)], "contains no state dict"),
        (itself(), "contains no state dict"),
    ],
    ids=["stride 0", "expanded", "meta", "mixed", "plain", "nested", "list", "itself"],
)
def test_hostile_files_are_one_error_and_take_no_memory(content, text, tmp_path):
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(ArtifactError, match=text):
        state_of((tmp_path / "net.pt").read_bytes(), label="net.pt")


def test_what_all_tensors_hold_together_is_limited(tmp_path, monkeypatch):
    shared = torch.zeros(2**10)
    torch.save({str(i): shared for i in range(8)}, tmp_path / "net.pt")
    data = (tmp_path / "net.pt").read_bytes()
    assert len(state_of(data, label="net.pt")) == 8
    monkeypatch.setattr("invkit.denoisers.weights.state.LARGEST", 2**14)
    with pytest.raises(ArtifactError, match="tensors of 32768 bytes, the limit is 16384"):
        state_of(data, label="net.pt")
