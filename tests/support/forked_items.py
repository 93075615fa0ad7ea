"""Processes that take items from one folder, forked from one that has torch warm.

Called as `python forked_items.py FOLDER SCENARIO...`; prints one JSON object with a result for each scenario.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from forked_faults import Child

from invkit.errors import ImageError, InvkitError
from invkit.training.processes.interrupt import Interrupted
from invkit.training.processes.items import Item, work_off

NEEDS = {
    "vae": (),
    "layer 1": ("vae",),
    "layer 2": ("vae",),
    "controls": (),
    "report": ("layer 1", "layer 2", "controls"),
}


def items(folder: Path, before: Callable[[str], None] = lambda _: None, seconds: float = 0.05) -> list[Item]:
    """Five items, each of which writes what it finds of those that it needs, and the threads that it has."""

    def work(name: str) -> list[Path]:
        path = folder / f"{name}.txt"
        found = [(folder / f"{need}.txt").read_text() for need in NEEDS[name]]
        path.write_text("torn")
        before(name)
        time.sleep(seconds)
        path.write_text(f"{name} with {torch.get_num_threads()} after ({', '.join(found)})")
        with open(folder.with_suffix(".log"), "a") as log:
            log.write(f"{name}\n")
        return [path]

    return [
        Item(name, f"key of {name}", lambda name=name: work(name), needs) for name, needs in NEEDS.items()
    ]


def worker(folder: Path, **options) -> dict:
    said: list[str] = []
    try:
        done = work_off(folder, items(folder, **options), threads=2, say=said.append)
    except InvkitError as error:
        return {"error": type(error).__name__, "code": error.exit_code, "message": str(error), "said": said}
    return {"done": done, "said": said}


def together(count: int, work: Callable[[int], dict]) -> list[dict]:
    """Return exit code and answer of each of some processes."""
    children = [Child(lambda number=number: work(number)) for number in range(count)]
    return [{"exit": code, **(answer or {})} for code, answer in (child.join() for child in children)]


def content(folder: Path) -> dict[str, str]:
    """Return what lies in a folder, but for locks, which are empty."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def found(folder: Path, processes: list[dict]) -> dict:
    return {
        "processes": processes,
        "content": content(folder),
        "log": folder.with_suffix(".log").read_text().splitlines(),
    }


def shared(folder: Path) -> dict:
    """The same items by one process, two and four, which begin and end with one thread."""

    def work(place: Path) -> dict:
        answer = worker(place)
        return {**answer, "threads": torch.get_num_threads()}

    return {
        str(count): found(place, together(count, lambda _, place=place: work(place)))
        for count in (1, 2, 4)
        for place in [folder / str(count)]
    }


def killed(folder: Path) -> dict:
    """One of two is killed in the middle of each item in turn; the other goes on."""

    def result(victim: str) -> dict:
        place = folder / victim

        def before(name: str) -> None:
            if name == victim and not place.with_suffix(".struck").exists():
                place.with_suffix(".struck").touch()
                os.kill(os.getpid(), signal.SIGKILL)

        return found(place, together(2, lambda _: worker(place, before=before)))

    return {name: result(name) for name in NEEDS}


def failed(folder: Path) -> dict:
    """An item fails in one of two processes, while the other is at another one; then in none."""
    place = folder / "run"

    def before(name: str) -> None:
        time.sleep(
            1 if name == "vae" else 2
        )  # both have begun, and the one is at its item when the other fails
        if name == "vae":
            raise ImageError("it is no image")

    first = together(2, lambda _: worker(place, before=before))
    told = place / "items/vae.failed"
    left = told.exists()
    second = together(2, lambda _: worker(place))
    return {"first": first, "left": left, "second": found(place, second), "gone": not told.exists()}


def stopped(folder: Path) -> dict:
    """One of two is asked to stop; the other does its item."""
    place = folder / "run"

    def before(name: str) -> None:
        if name == "vae" and not place.with_suffix(".struck").exists():
            place.with_suffix(".struck").touch()
            raise Interrupted(signal.SIGTERM)

    return found(place, together(2, lambda _: worker(place, before=before)))


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    torch.set_num_threads(1)
    results = {}
    for name in names:
        (folder / name).mkdir()
        results[name] = globals()[name](folder / name)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
