import json
from pathlib import Path

import pytest
import torch
from command_ranks import ended_well, forked

from invkit.artifacts import load


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    return forked(tmp_path_factory.mktemp("ranks"), "analyze")


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    return forked(tmp_path_factory.mktemp("ranks"), "analyze_all", timeout=3000)


def same_analysis(one, other, *, refined=True):
    """Samples and figures are the same, bit for bit, and so are the files of the run folder."""
    names = [{path.relative_to(folder) for path in folder.rglob("*")} for folder in (one, other)]
    assert names[0] == names[1]
    stored = [name for name in names[0] if name.name == "samples.safetensors"]
    assert stored
    for place in stored:
        tensors = [load(folder / place, kind="samples").tensors for folder in (one, other)]
        assert tensors[0].keys() == tensors[1].keys()
        assert ("layer0.certified" in tensors[0]) == refined
        for name, values in tensors[0].items():
            assert torch.equal(values, tensors[1][name]), name
        figures = [figures_of(folder / place.parent) for folder in (one, other)]
        assert figures[0] == figures[1]


def figures_of(folder):
    """What an analysis found, but for whether a part was there before."""
    analysis = json.loads((folder / "manifest.json").read_text())["analysis"]
    for layer in analysis["layers"].values():
        assert layer.pop("cinn") in ("trained", "found")
    return analysis


def test_analyze_gives_the_same_run_folder_for_any_number_of_processes(quick):
    one, two = quick["analyze"]["1"], quick["analyze"]["2"]
    found = [ended_well(one), ended_well(two)]
    # The second analysis finds what the first has trained; all else is the same.
    assert [each["layers"]["1"]["cinn"] for each in found] == ["trained", "found"]
    same_analysis(Path(one["out"]), Path(two["out"]), refined=False)


@pytest.mark.slow
@pytest.mark.parametrize("world", ["2", "4"])
def test_a_series_with_two_layers_and_missing_parts_is_the_first_ones(slow, world):
    one, several = slow["analyze_all"]["1"], slow["analyze_all"][world]
    for found in (one, several):
        ended_well(found)
    same_analysis(Path(one["out"]), Path(several["out"]))
