import json

import pytest
import torch

from invkit.errors import ArtifactError, ConfigError, ResourceError, UsageError
from invkit.training.processes.plan import begin

CONFIG = {"samples": 2, "denoisers": {"small": {"layers": ["1"]}}}


@pytest.fixture
def started(monkeypatch):
    """Stand where torchrun has started two processes."""
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)


def test_who_goes_on_takes_over_what_was_decided(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    first = begin(tmp_path / "run", CONFIG, "run", data={"fingerprint": "1"})
    assert first.threads == 3
    assert json.loads((tmp_path / "run/config.json").read_text()) == CONFIG
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    assert begin(tmp_path / "run", CONFIG, "run", data={"fingerprint": "1"}) == first


def test_several_processes_take_one_thread_each_unless_they_are_told_otherwise(
    tmp_path, monkeypatch, started
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert begin(tmp_path / "one", CONFIG, "run").threads == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert begin(tmp_path / "three", CONFIG, "run").threads == 3


def test_something_else_is_refused_with_what_differs(tmp_path):
    begin(tmp_path, CONFIG, "series", data={"fingerprint": "1"})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        ConfigError, match=r"the series in .* samples was 2, now it is 3\. Continue with the same"
    ):
        begin(tmp_path, {**CONFIG, "samples": 3}, "series", data={"fingerprint": "1"})
    with pytest.raises(ConfigError, match=r'denoisers.small.layers was \["1"\], now it is null'):
        begin(tmp_path, {"samples": 2}, "series", data={"fingerprint": "1"})
    with pytest.raises(ConfigError, match='fingerprint was "1", now it is "2"'):
        begin(tmp_path, CONFIG, "series", data={"fingerprint": "2"})
    assert sorted(tmp_path.rglob("*")) == before


def test_every_difference_is_told_by_its_field(tmp_path):
    begin(tmp_path, {"a": 1, "b": {"c": [1, 2], "d": {}}, "old": 0}, "run")
    with pytest.raises(ConfigError) as caught:
        begin(tmp_path, {"a": 1, "b": {"c": [1, 3], "d": {"e": 1}}, "new": None}, "run")
    assert (
        "b.c was [1, 2], now it is [1, 3]; b.d was {}, now it is null; old was 0, now it is null; "
        "b.d.e was null, now it is 1; new was null, now it is null." in str(caught.value)
    )


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("do not touch")
    with pytest.raises(UsageError, match="contains files, but no run"):
        begin(tmp_path, CONFIG, "run")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_damaged_plan_is_named(tmp_path):
    begin(tmp_path, CONFIG, "run")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"config.json.*Start the run in another folder"):
        begin(tmp_path, CONFIG, "run")


def test_a_place_that_is_no_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot write to"):
        begin(tmp_path / "file/run", CONFIG, "run")
