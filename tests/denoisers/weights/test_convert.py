import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from invkit.denoisers.weights.convert import convert_state_dict
from invkit.errors import ArtifactError, UsageError


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": {"params": s}}]
)
def test_tensors_come_out_as_they_went_in(tmp_path, wrap):
    state = torch.nn.Conv2d(1, 2, 3).state_dict()
    torch.save(wrap(state), tmp_path / "a.pt")
    assert convert_state_dict(tmp_path / "a.pt", tmp_path / "a.safetensors") == 2
    found = load_file(tmp_path / "a.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil-ran",)


def test_code_in_a_pickle_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(1), "evil": Evil()}, "a.pt")
    with pytest.raises(ArtifactError, match="only tensors"):
        convert_state_dict(Path("a.pt"), Path("a.safetensors"))
    assert not Path("evil-ran").exists()
    assert not Path("a.safetensors").exists()


@pytest.mark.parametrize("content", [b"", b"not a file of torch", b"PK\x03\x04broken"])
def test_what_is_no_state_dict_is_one_error(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ArtifactError):
        convert_state_dict(tmp_path / "a.pt", tmp_path / "b.safetensors")


def test_other_contents_missing_files_and_existing_targets_are_refused(tmp_path):
    torch.save([1, 2], tmp_path / "a.pt")
    with pytest.raises(ArtifactError, match="no state dict"):
        convert_state_dict(tmp_path / "a.pt", tmp_path / "b.safetensors")
    with pytest.raises(ArtifactError, match="does not exist"):
        convert_state_dict(tmp_path / "none.pt", tmp_path / "b.safetensors")
    (tmp_path / "b.safetensors").touch()
    with pytest.raises(UsageError, match="exists"):
        convert_state_dict(tmp_path / "a.pt", tmp_path / "b.safetensors")
