"""A cache whose preparation was killed, in any process at any write, is mended by the next call."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from ct_cache import contents, index_of, salted
from ct_layouts import PATIENTS, write_tcia

from invkit.data.cache.files import read_index, write_index
from invkit.data.prepare import prepare as module
from invkit.data.prepare.prepare import prepare
from invkit.data.prepare.shard import make_shard
from invkit.data.slices import load_slices
from invkit.errors import DataError, ResourceError
from invkit.training.processes import pool


def test_an_unfinished_cache_is_refused(cache):
    index = index_of(cache)
    write_index(cache, read_index(cache).model_copy(update={"complete": False}))
    with pytest.raises(DataError, match="was interrupted"):
        load_slices(cache)
    assert index["complete"]


@pytest.mark.parametrize("call", ["fsync", "replace", "unlink"])
def test_killed_at_any_write_it_goes_on_to_the_same_cache(tmp_path, call):
    source = write_tcia(tmp_path / "tcia", PATIENTS[:3], slices=1, size=32)
    prepare([source], salted(tmp_path / "whole"))
    # What a later, larger preparation is killed in: one patient more, one file changed.
    start = tmp_path / "start"
    shutil.copytree(tmp_path / "whole", start)
    write_tcia(source, ["L004"], slices=1, size=32)
    file = next(source.rglob("L001/*/*Low*/*.dcm"))
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    shutil.rmtree(source / "LDCT-and-Projection-data" / "L002")
    wanted = tmp_path / "wanted"
    shutil.copytree(start, wanted)
    prepare([source], wanted)
    fingerprint, kills = load_slices(wanted).fingerprint, 0
    for number in range(1000):
        folder = tmp_path / "cache"
        shutil.copytree(start, folder)
        if _runs_to_its_end(lambda folder=folder: prepare([source], folder), call, number):
            break
        kills += 1
        # The cache as it was, as it shall be, or refused: nothing between.
        with contextlib.suppress(DataError):
            assert load_slices(folder).fingerprint in (fingerprint, load_slices(start).fingerprint)
        prepare([source], folder)
        assert contents(folder) == contents(wanted), (call, number)
        shutil.rmtree(folder)
    assert kills >= {"fsync": 12, "replace": 5, "unlink": 2}[call]


def _runs_to_its_end(work, call, number):
    """Fork, kill the child with SIGKILL at its `number`-th call of a function of `os`; return whether it lived."""
    child = os.fork()
    if child == 0:
        real, left = getattr(os, call), [number]

        def counted(*args, **options):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return real(*args, **options)

        setattr(os, call, counted)
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFEXITED(status)


def test_processes_make_the_same_cache(tcia, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "START", "fork")
    one, other = salted(tmp_path / "one"), salted(tmp_path / "other")
    steps = []
    prepare([tcia], one)
    prepare([tcia], other, workers=3, progress=lambda event: steps.append((event.step, event.steps)))
    assert contents(one) == contents(other)
    assert steps == [(number, 6) for number in range(1, 7)]


def deadly(block, folder, old):
    if block.patient == "L006":
        os.kill(os.getpid(), signal.SIGKILL)
    return make_shard(block, folder, old)


def test_a_killed_worker_is_named_and_what_is_done_is_kept(tcia, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "START", "fork")
    folder = salted(tmp_path / "cache")
    monkeypatch.setattr(module, "make_shard", deadly)
    with pytest.raises(ResourceError, match="--workers"):
        prepare([tcia], folder, workers=2)
    monkeypatch.setattr(module, "make_shard", make_shard)
    assert prepare([tcia], folder).slices == 12


@pytest.mark.slow
def test_workers_end_with_a_killed_preparation(tmp_path):
    source = write_tcia(tmp_path / "tcia", [f"L{number:03d}" for number in range(40)], slices=2)
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from invkit.data.prepare.prepare import prepare

            if __name__ == "__main__":
                prepare([{str(source)!r}], {str(tmp_path / "cache")!r}, workers=2,
                        progress=lambda event: print(event.step, flush=True))
            """
        )
    )
    words = [sys.executable, script]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as run:
        assert run.stdout.readline().strip() == "1"
        run.kill()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("workers outlived their parent")
    assert prepare([source], tmp_path / "cache", workers=2).slices == 80
