"""Commands that take items: any number of processes leave the same bytes, also where one of them is killed."""

import json
from pathlib import Path

import pytest
from command_ranks import ended_well, forked


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    return forked(tmp_path_factory.mktemp("ranks"), "layers", "slices", "run")


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    return forked(tmp_path_factory.mktemp("ranks"), "trained", "run_by_four", timeout=3000)


def content(found):
    """The bytes of all files but locks, which are empty, and logs, which hold times."""
    folder = Path(found["out"])
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.relative_to(folder).parts[0] != "logs"
    }
    assert len(files) > 5
    return files


def same_bytes(one, other):
    before, after = content(one), content(other)
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []


@pytest.mark.parametrize("scenario", ["layers", "slices"])
def test_two_processes_leave_the_same_bytes(quick, scenario):
    one, several = quick[scenario]["one"], quick[scenario]["two"]
    printed = [ended_well(one), ended_well(several)]
    for each in printed:
        del each["run"], each["report"]
    assert printed[0] == printed[1]
    same_bytes(one, several)


def test_two_shells_that_know_nothing_of_each_other_do_the_same(quick):
    shells = quick["layers"]["shells"]
    assert [rank["code"] for rank in shells["ranks"]] == [0, 0]
    same_bytes(quick["layers"]["one"], shells)
    first, second = (json.loads(rank["stdout"]) for rank in shells["ranks"])
    assert first == second


def test_what_is_finished_is_only_printed_again(quick):
    first, second = quick["layers"]["again"]
    assert (first["code"], second["code"]) == (0, 0)
    assert json.loads(first["stdout"]) == ended_well(quick["layers"]["two"])
    assert first["stderr"].strip() == "3 of 3 items were done before"
    assert second["stdout"] == second["stderr"] == ""


def test_the_folder_of_layers_is_that_of_a_run(quick):
    found = content(quick["layers"]["two"])
    manifest = json.loads(found["manifest.json"])
    assert [*manifest["analysis"]["layers"]] == ["1", "2"]
    assert {name.partition("/")[0] for name in found} == {
        *("config.json", "manifest.json", "report.html", "report.json", "figures.csv", "items"),
        *("samples.safetensors", "samples.json"),
    }


def same_sweep(one, several):
    before, after = ended_well(one), ended_well(several)
    assert len(before["done"]) == 10
    assert set(after["done"]) < set(before["done"])  # the others are those of other processes
    assert before["layers"] == after["layers"]
    same_bytes(one, several)


def test_a_sweep_comes_out_the_same_for_two_processes(quick):
    same_sweep(quick["run"]["one"], quick["run"]["two"])


@pytest.mark.slow
def test_a_sweep_comes_out_the_same_for_four_processes(slow):
    same_sweep(slow["run_by_four"]["one"], slow["run_by_four"]["four"])


def survived(found):
    """Whether the second of two processes was killed and the first went on."""
    first, second = found["ranks"]
    assert second["code"] is None
    assert first["code"] == 0, first["stderr"]
    return True


def test_where_one_of_two_is_killed_the_other_finishes_the_sweep(quick):
    assert survived(quick["run"]["killed"])
    same_bytes(quick["run"]["one"], quick["run"]["killed"])


@pytest.mark.slow
@pytest.mark.parametrize("way", ["two", "four", "killed"])
def test_an_analysis_that_trains_comes_out_the_same(slow, way):
    found = slow["trained"]
    printed = ended_well(found["one"])
    assert [layer["cinn"] for layer in printed["layers"].values()] == ["trained", "trained"]
    assert survived(found[way]) if way == "killed" else ended_well(found[way])
    same_bytes(found["one"], found[way])
