"""Plugins are asked in a process of their own, once for each installed version: nothing they do there reaches this one."""

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from invkit.plugins import ask as module
from invkit.plugins.ask import Answer, ask
from invkit.plugins.discovery import find_plugins

HOSTILE = {
    "exits": ("import os; os._exit(0)", "importing it ended the process with code 0"),
    "exits-with-a-code": ("import os; os._exit(7)", "importing it ended the process with code 7"),
    "crashes": (
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "importing it ended the process with signal 11",
    ),
    "hangs": ("import time; time.sleep(600)", "importing it did not end within 1 seconds"),
    "hangs-on-input": ("input()", "importing it failed: EOFError"),
    "ignores-signals": (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
        "importing it did not end within 1 seconds",
    ),
    "changes-directory": ("import os; os.chdir('/')", "importing it changes the working directory"),
    "closes-a-stream": ("import os; os.close(1)", "importing it closes standard streams"),
    "closes-everything": ("import os; os.closerange(0, 200)", "importing it closes "),
    "closes-python-streams": ("import sys; sys.__stdout__.close()", "importing it closes standard streams"),
    "prints-an-answer": (
        "import os; os.write(1, b'{}'); raise ValueError('no')",
        "importing it failed: ValueError: no",
    ),
    "leaves-a-thread": (
        "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start(); raise OSError('no')",
        "importing it failed: OSError: no",
    ),
}
FORKED = """
import json, sys
from importlib.metadata import EntryPoint
from invkit.plugins import ask
assert "torch" not in sys.modules
names = sys.argv[1:]
print(json.dumps({name: vars(ask._forked(EntryPoint(name, f"hostile_{name}", "invkit"), 1.0)) for name in names}))
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    for name, (code, _) in HOSTILE.items():
        (folder / f"hostile_{name.replace('-', '_')}.py").write_text(code)
    return folder


@pytest.fixture(scope="module")
def forked(hostile):
    names = [name.replace("-", "_") for name in HOSTILE]
    path = os.pathsep.join([str(hostile), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", FORKED, *names],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
        cwd=hostile,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("fault", HOSTILE)
def test_what_a_plugin_does_to_its_process_is_named_after_a_fork(fault, forked):
    reason = HOSTILE[fault][1]
    assert forked[fault.replace("-", "_")]["error"].startswith(reason)


@pytest.mark.parametrize("fault", ["exits", "crashes", "hangs", "changes-directory", "closes-everything"])
def test_and_in_a_process_of_its_own(fault, hostile, monkeypatch):
    monkeypatch.syspath_prepend(str(hostile))
    here = os.getcwd()
    entry = EntryPoint(fault, f"hostile_{fault.replace('-', '_')}", "invkit")
    # A process that begins anew has to import invkit first, which may take longer than a second on a busy machine.
    found = module._spawned(entry, 3.0 if fault == "hangs" else 60.0)
    assert found.error.startswith(HOSTILE[fault][1].replace("1 seconds", "3 seconds"))
    assert not found.names
    assert os.getcwd() == here


@pytest.fixture
def times(site, good, tmp_path, monkeypatch):
    """Return a function that asks the made-up plugin `alpha` and returns the answer, and how often it was imported so far."""
    monkeypatch.setenv("INVKIT_CACHE", str(tmp_path / "cache"))
    count = tmp_path / "count"
    count.write_text("")
    more = f"with open({str(count)!r}, 'a') as stream: stream.write('x')\n"

    def asked(extra=""):
        found = next(one for one in find_plugins() if one.name == "alpha")
        return ask(found), len(count.read_text())

    site.add("alpha", good("alpha", more))
    asked.more = more
    return asked


ANSWER = Answer((("denoisers", "alpha"),))


def test_an_installed_version_is_asked_once(site, times):
    site.record("alpha")
    assert [times() for _ in range(3)] == [(ANSWER, 1)] * 3
    path = site.folder / "fake_alpha.py"
    path.write_text(path.read_text().replace('denoiser("alpha")', 'denoiser("other")'))
    site.record("alpha")  # another version: its files have other hashes
    assert times() == (Answer((("denoisers", "other"),)), 2)
    assert times()[1] == 2


@pytest.mark.parametrize(
    "installation", [{"editable": True}, {"files": ["_editable_alpha.pth,sha256=x,1"]}, None]
)
def test_an_editable_one_is_asked_each_time(installation, site, times):
    if installation is not None:
        site.record("alpha", **installation)
    assert [times() for _ in range(2)] == [(ANSWER, 1), (ANSWER, 2)]


def test_a_damaged_answer_is_asked_for_again(site, times, tmp_path):
    site.record("alpha")
    times()
    (kept,) = (tmp_path / "cache" / "plugins").iterdir()
    kept.write_text('{"names": 3}')
    assert times() == (ANSWER, 2)
    assert times() == (ANSWER, 2)


def test_one_that_failed_is_asked_again_once_anything_was_installed(site, times):
    path = site.folder / "fake_alpha.py"
    path.write_text(times.more + "import fake_needed\n" + path.read_text())
    site.record("alpha")
    lacks = "importing it failed: it needs the module 'fake_needed', which is not installed"
    found, count = times()
    assert found.error.startswith(lacks) and count == 1
    assert times() == (found, 1)
    (site.folder / "fake_needed.py").write_text("")
    found, count = times()
    assert (found, count > 1) == (ANSWER, True)
    assert times()[1] == count


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(site, times, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INVKIT_CACHE", str(tmp_path / "file"))
    site.record("alpha")
    assert times() == (ANSWER, 1)
    assert times() == (ANSWER, 2)
