import errno
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from invkit.errors import ResourceError
from invkit.training.lock import exclusive

COUNTER = """
    import sys
    from pathlib import Path
    from invkit.training.lock import exclusive

    folder = Path(sys.argv[1])
    for _ in range(int(sys.argv[2])):
        with exclusive(folder):
            path = folder / "count"
            count = int(path.read_text()) if path.exists() else 0
            path.write_text("")
            path.write_text(str(count + 1))
"""


def test_processes_never_are_inside_together(tmp_path):
    processes = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(COUNTER), str(tmp_path), "20"])
        for _ in range(3)
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "60"


def test_a_thread_waits_says_so_and_then_enters(tmp_path):
    events, order = [], []

    def work():
        with exclusive(tmp_path, progress=events.append, stage="waiting for another training"):
            order.append("second")

    with exclusive(tmp_path):
        thread = threading.Thread(target=work)
        thread.start()
        deadline = time.monotonic() + 10
        while not events and time.monotonic() < deadline:
            time.sleep(0.01)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert events[0].stage == "waiting for another training"
    assert events[0].steps == 0


def test_the_same_thread_enters_again_and_the_lock_outlives_the_inner_block(tmp_path):
    with exclusive(tmp_path):
        with exclusive(tmp_path):
            pass
        entered = threading.Event()

        def work():
            with exclusive(tmp_path):
                entered.set()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        assert not entered.wait(0.3)
    assert entered.wait(10)
    thread.join(10)


def test_a_killed_process_frees_its_lock(tmp_path):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path; from invkit.training.lock import exclusive\n"
            "with exclusive(Path(sys.argv[1])):\n  print('in', flush=True)\n  time.sleep(60)",
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout.readline() == b"in\n"
        holder.kill()
    with exclusive(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_one_typed_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="Choose another folder"), exclusive(tmp_path / "file" / "run"):
        pass


def test_a_file_system_without_locks_is_warned_of_and_used(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr("invkit.training.lock.FileLock.acquire", refuse)
    with pytest.warns(UserWarning, match="run one process at a time"), exclusive(tmp_path):
        pass
