import json
import os
import subprocess
import sys

import forked_items
import pytest

from invkit.errors import DivergedError
from invkit.training.processes.items import Item, file_name, work_off

NAMES = ("shared", "killed", "failed", "stopped")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each scenario of `forked_items.py` came to."""
    result = subprocess.run(
        [sys.executable, forked_items.__file__, tmp_path_factory.mktemp("items"), *NAMES],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout)


@pytest.mark.parametrize("count", ["1", "2", "4"])
def test_any_number_of_processes_leave_the_same_bytes_and_do_each_item_once(found, count):
    one, several = found["shared"]["1"], found["shared"][count]
    assert one["log"] == list(forked_items.NEEDS)
    assert several["content"] == one["content"]
    assert sorted(several["log"]) == sorted(one["log"])
    assert sorted(name for each in several["processes"] for name in each["done"]) == sorted(one["log"])
    assert one["content"]["controls.txt"] == "controls with 2 after ()"
    assert {(each["exit"], each["threads"]) for each in several["processes"]} == {(0, 1)}


@pytest.mark.parametrize("victim", forked_items.NEEDS)
def test_where_one_of_two_is_killed_the_other_leaves_the_same_bytes(found, victim):
    case = found["killed"][victim]
    assert sorted(each["exit"] for each in case["processes"]) == [-9, 0]
    assert case["content"] == found["shared"]["1"]["content"]
    assert sorted(case["log"]) == sorted(forked_items.NEEDS)


def test_all_end_with_the_first_failure_and_the_next_call_tries_again(found):
    case = found["failed"]
    own, other = sorted(case["first"], key=lambda each: len(each["message"]))
    assert {(each["error"], each["code"]) for each in (own, other)} == {("ImageError", 3)}
    assert own["message"] == "it is no image"
    assert other["message"] == "vae, in another process: it is no image"
    assert case["left"] and case["gone"]
    assert case["second"]["content"] == found["shared"]["1"]["content"]
    assert "controls" not in [name for each in case["second"]["processes"] for name in each["done"]]


def test_one_that_is_asked_to_stop_leaves_its_item_to_the_other(found):
    case = found["stopped"]
    assert sorted(each.get("error", "") for each in case["processes"]) == ["", "Interrupted"]
    assert case["content"] == found["shared"]["1"]["content"]


def item(folder, name, *, done, needs=(), key="", **options):
    def work():
        done.append(name)
        (folder / f"{name}.txt").write_text(name)
        return [folder / f"{name}.txt"]

    return Item(name, key, work, needs, **options)


def run(folder, *items):
    said = []
    return work_off(folder, items, threads=1, say=said.append), said


def test_what_is_damaged_or_wanted_differently_is_done_again(tmp_path):
    done = []
    chain = [item(tmp_path, "a", done=done), item(tmp_path, "b", done=done, needs=("a",))]
    assert run(tmp_path, *chain) == (("a", "b"), ["1 of 2, a", "2 of 2, b"])
    assert run(tmp_path, *chain) == ((), ["2 of 2 items were done before"])
    (tmp_path / "a.txt").write_text("b")
    # It comes out as it was, so what was made of it stays.
    assert run(tmp_path, *chain)[0] == ("a",)
    (tmp_path / "items/b.json").write_text("{")
    assert run(tmp_path, *chain)[0] == ("b",)
    changed = item(tmp_path, "a", done=done, key="another")
    assert run(tmp_path, changed, chain[1])[0] == ("a",)


def test_what_another_outcome_was_made_of_is_done_again(tmp_path):
    first = Item("a", "", lambda: [write(tmp_path / "a.txt", "1")])
    second = Item("b", "", lambda: [write(tmp_path / "b.txt", "2")], ("a",))
    run(tmp_path, first, second)
    other = Item("a", "another", lambda: [write(tmp_path / "a.txt", "3")])
    assert run(tmp_path, other, second)[0] == ("a", "b")


def write(path, text):
    path.write_text(text)
    return path


def test_what_is_there_is_not_done_and_what_was_begun_is_not_asked_for(tmp_path):
    done, there = [], []

    def begins():
        raise KeyboardInterrupt

    assert run(tmp_path, item(tmp_path, "a", done=done, there=lambda: True)) == (
        (),
        ["1 of 1 items were done before"],
    )
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Item("b", "", begins, there=lambda: False))
    # It was not there when it was begun, so it counts as done here, whatever has been left in between.
    again = item(tmp_path, "b", done=done, there=lambda: there.append("asked") or True)
    assert run(tmp_path, again)[0] == ("b",)
    assert there == []


def test_files_that_only_others_need_may_go_when_those_are_done(tmp_path):
    done = []
    chain = [item(tmp_path, "a", done=done, passing=True), item(tmp_path, "b", done=done, needs=("a",))]
    run(tmp_path, *chain)
    (tmp_path / "a.txt").unlink()
    assert run(tmp_path, *chain)[0] == ()
    (tmp_path / "b.txt").unlink()
    assert run(tmp_path, *chain)[0] == ("a", "b")


def test_a_failure_is_told_without_what_it_may_quote(tmp_path):
    def bug():
        raise ValueError("a patient's name")

    with pytest.raises(ValueError, match="a patient"):
        run(tmp_path, Item("a b", "", bug))
    told = (tmp_path / "items/a.b.failed").read_text()
    assert "bug in invkit: ValueError" in told and "patient" not in told

    def diverges():
        raise DivergedError("it blew up")

    with pytest.raises(DivergedError) as caught:
        run(tmp_path, Item("a b", "", diverges))
    assert caught.value.__notes__ == ["in item a b"]


def test_names_of_layers_become_safe_file_names():
    assert file_name("conv-1_a") == "conv-1_a"
    names = [file_name(text) for text in ("a.b", "a/b", "a-b", "..", "../../x", "ä", "a" * 99, "a\0")]
    assert len(set(names)) == len(names)
    assert all(name.replace("-", "").replace("_", "").isalnum() and len(name) < 80 for name in names)
