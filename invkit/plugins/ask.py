"""Asks an installed plugin in a process of its own what it brings, once for each installed version.

Whatever the plugin does there, nothing of it reaches the process that asks: it may end itself, hang, change the folder or close
streams. What it answered is kept under a hash of the distribution's own record of its files. An editable installation has no such
record, so it is asked each time.
"""

from __future__ import annotations

__all__ = ["ASKED", "Answer", "ask"]

import contextlib
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from invkit._version import __version__
from invkit.denoisers.weights.installed import models_folder
from invkit.errors import ResourceError
from invkit.plugins.containment import attempt
from invkit.plugins.discovery import GROUP, FoundPlugin
from invkit.plugins.hooks import survey

ASKED = "INVKIT_ASKED"  # set in the process that asks one plugin: it looks for no others
LIMIT = 20.0  # seconds
CLOSED = 97  # exit code of a process that cannot answer any more
BEGIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from invkit.plugins.ask import answer_to_parent; answer_to_parent(*sys.argv[2:])"
)


@dataclass(frozen=True)
class Answer:
    """What a plugin brings.

    Args:
        names: kind and unique key of each record.
        problems: what is wrong with some of it.
        error: why nothing of it can be used; empty where it can.
        printed: by the plugin, while it was asked.
    """

    names: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()
    error: str = ""
    printed: str = ""


def ask(found: FoundPlugin, *, limit: float = LIMIT) -> Answer:
    """Return what an installed plugin brings, without importing it into this process.

    Args:
        found: with an entry point.
        limit: seconds after which a plugin that does not answer is stopped.
    """
    entry = found.entry_point
    assert entry is not None
    key = installed_key(entry)
    place = None if key is None else _kept_at(key)
    kept = None if place is None else _read(place)
    if kept is not None and (not (kept[0].error or kept[0].problems) or kept[1] == _changed(entry)):
        return kept[0]
    # A fork takes milliseconds, but is only safe before there are threads, which torch starts.
    alone = hasattr(os, "fork") and threading.active_count() == 1 and "torch" not in sys.modules
    answer = _forked(entry, limit) if alone else _spawned(entry, limit)
    if place is not None:
        _keep(place, answer, _changed(entry))
    return answer


def installed_key(entry: EntryPoint) -> str | None:
    """Return a hash of the distribution's record of its files, which has their hashes; `None` where the module is not in it."""
    distribution = entry.dist
    if distribution is None:
        return None
    record, url = (distribution.read_text(name) or "" for name in ("RECORD", "direct_url.json"))
    module = entry.value.partition(":")[0].strip().split(".")[0]
    files = [line.rsplit(",", 2)[0] for line in record.splitlines()]
    own = any(file == f"{module}/__init__.py" or file.startswith(f"{module}.") for file in files)
    if not own or '"editable": true' in url:
        return None
    made_of = [__version__, sys.version, sys.prefix, entry.name, entry.value, record]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def answer_to_parent(name: str, value: str) -> None:
    """Answer on standard output, as a process that was started for one plugin."""
    _answer(EntryPoint(name, value, GROUP), os.dup(1))


def _answer(entry: EntryPoint, out: int) -> None:
    """Import a plugin, write what it brings to the descriptor `out`, and end the process."""
    os.environ[ASKED] = "1"
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    folder, streams = _here(), _streams()
    try:
        answer = _surveyed(entry)
    except KeyboardInterrupt:
        answer = Answer(error="importing it failed: KeyboardInterrupt")
    if _here() != folder:
        answer = Answer(error="importing it changes the working directory", printed=answer.printed)
    if _streams() != streams:
        answer = Answer(error="importing it closes standard streams", printed=answer.printed)
    try:
        with open(out, "wb", closefd=False) as file:
            file.write(json.dumps(asdict(answer)).encode())
    except OSError:
        os._exit(CLOSED)
    os._exit(0)


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def _streams() -> list[bool]:
    """Return which of the standard streams are open, for the system and for Python."""
    alive = []
    for stream in range(3):
        try:
            os.fstat(stream)
            alive.append(True)
        except OSError:
            alive.append(False)
    return alive + [
        stream is not None and not stream.closed for stream in (sys.__stdin__, sys.__stdout__, sys.__stderr__)
    ]


def _surveyed(entry: EntryPoint) -> Answer:
    loaded = attempt(entry.load)
    if loaded.error:
        return Answer(error=f"importing it failed: {loaded.error}", printed=loaded.printed)
    found = survey(loaded.value)
    names = tuple((kind, key) for kind, key, _ in found.records)
    return Answer(names, found.problems, printed=loaded.printed + found.printed)


def _forked(entry: EntryPoint, limit: float) -> Answer:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _answer(entry, writing)
        finally:
            os._exit(CLOSED)
    os.close(writing)
    parts, until = [], time.monotonic() + limit
    try:
        while (left := until - time.monotonic()) > 0 and select.select([reading], [], [], left)[0]:
            if not (part := os.read(reading, 2**16)):
                break
            parts.append(part)
        late = left <= 0 or not _ended(child, until)
    finally:
        os.close(reading)
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    return _parsed(b"".join(parts), None if late else os.waitstatus_to_exitcode(status), limit)


def _ended(child: int, until: float) -> bool:
    """Wait until a process has ended, without taking its status away."""
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if time.monotonic() > until:
            return False
        time.sleep(0.001)
    return True


def _spawned(entry: EntryPoint, limit: float) -> Answer:
    command = [sys.executable, "-c", BEGIN, json.dumps(sys.path), entry.name, entry.value]
    environment = {**os.environ, ASKED: "1"}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as child:
        try:
            data, code = child.communicate(timeout=limit)[0], child.returncode
        except subprocess.TimeoutExpired:
            child.kill()
            data, code = b"", None
    return _parsed(data, code, limit)


def _parsed(data: bytes, code: int | None, limit: float) -> Answer:
    """Return what a process has answered, or what became of it."""
    answer = None if code is None else _stated(data)
    if answer is not None:
        return answer
    if code is None:
        return Answer(error=f"importing it did not end within {limit:.0f} seconds")
    if code == CLOSED:
        return Answer(error="importing it closes descriptors of the process")
    what = f"signal {-code}" if code < 0 else f"code {code}"
    return Answer(error=f"importing it ended the process with {what}")


def _stated(data: bytes) -> Answer | None:
    try:
        return _of(json.loads(data))
    except (ValueError, KeyError, TypeError):
        return None


def _of(values: Mapping[str, Any]) -> Answer:
    names = tuple((str(kind), str(key)) for kind, key in values["names"])
    return Answer(names, tuple(map(str, values["problems"])), str(values["error"]), str(values["printed"]))


def _kept_at(key: str) -> Path | None:
    try:
        return models_folder().with_name("plugins") / f"{key}.json"
    except ResourceError:
        return None


def _read(place: Path) -> tuple[Answer, int] | None:
    try:
        kept = json.loads(place.read_bytes())
        return _of(kept), int(kept["changed"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _changed(entry: EntryPoint) -> int:
    """Return when anything was installed or removed last: what a plugin lacked may be there since."""
    try:
        assert entry.dist is not None
        return Path(str(entry.dist.locate_file(""))).stat().st_mtime_ns
    except OSError:
        return 0


def _keep(place: Path, answer: Answer, changed: int) -> None:
    """Keep an answer; where the folder cannot be written, the plugin is asked again the next time."""
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps({**asdict(answer), "changed": changed}), encoding="utf-8")
        os.replace(temporary, place)
