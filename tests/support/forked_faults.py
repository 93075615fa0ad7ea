"""Faults that end a process, each in forked children of one process that has torch warm.

Called as `python forked_faults.py FOLDER SCENARIO...`; prints one JSON object with a result for each scenario. It is a
script of its own because a child may only be forked from a process that runs no threads.
"""

import json
import os
import random
import resource
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from tiny_training import LineTask, TinyTask, config, outcome, train

from invkit.errors import InvkitError
from invkit.training import folder as training_folder
from invkit.training.engine import fit
from invkit.training.precision import Precision, mixed_precision
from invkit.training.processes.group import process_group

STEPS = 12


class Fuse:
    """Counts the points where a kill may come, and kills this process at one of them."""

    def __init__(self, point: int | None):
        self.point = point
        self.passed = 0

    def burn(self, *_) -> None:
        self.passed += 1
        if self.passed == self.point:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, call: Callable) -> Callable:
        def wrapped(*args, **kwargs):
            self.burn()
            result = call(*args, **kwargs)
            self.burn()
            return result

        return wrapped

    def install(self) -> None:
        """Put points before and after all calls that change a folder, and into the middle of each write."""
        for module, name in ((os, "replace"), (os, "fsync"), (os, "unlink"), (tempfile, "mkstemp")):
            setattr(module, name, self.around(getattr(module, name)))
        fdopen = os.fdopen
        os.fdopen = lambda *args, **kwargs: Torn(fdopen(*args, **kwargs), self)


class Torn:
    """A file whose writes are made of two halves with a fuse between them."""

    def __init__(self, stream, fuse: Fuse):
        self.stream, self.fuse = stream, fuse

    def write(self, data: bytes) -> None:
        half = len(data) // 2
        self.stream.write(data[:half])
        self.stream.flush()
        self.fuse.burn()
        self.stream.write(data[half:])

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        self.stream.close()

    def __getattr__(self, name):
        return getattr(self.stream, name)


class Child:
    """A forked process that works and sends back what it found."""

    def __init__(self, work: Callable[[], object]):
        reading, writing = os.pipe()
        self.number = os.fork()
        if self.number == 0:
            os.close(reading)
            code, answer = 1, None
            try:
                answer, code = work(), 0
            except InvkitError as error:
                answer, code = str(error), error.exit_code
            finally:
                with open(writing, "w") as stream:
                    json.dump(answer, stream)
                os._exit(code)
        os.close(writing)
        self.reading = reading

    def join(self) -> tuple[int, object]:
        """Return exit code (negative: the signal that killed it) and answer."""
        with open(self.reading) as stream:
            text = stream.read()
        _, status = os.waitpid(self.number, 0)
        return os.waitstatus_to_exitcode(status), json.loads(text) if text else None


def in_child(work: Callable[[], object]) -> object:
    """Return the answer of a child that must end well."""
    code, answer = Child(work).join()
    assert code == 0, answer
    return answer


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def killed(folder: Path, steps: int, point: int | None) -> dict:
    """Train with a fuse at `point`, which also counts each loss; return outcome and points passed."""
    fuse = Fuse(point)
    fuse.install()
    result = train(folder, steps, before=fuse.burn)
    return {**result, "points": fuse.passed}


def sweep(folder: Path, count: int | None, steps: int) -> dict:
    """Kill at `count` points spread over a run (or at all), twice each, and look what comes out."""
    reference = in_child(lambda: killed(folder / "reference", steps, None))
    points = reference.pop("points")
    chosen = range(1, points + 1)
    if count is not None:
        chosen = sorted(random.Random(0).sample(chosen, count))
    wrong, kills = [], 0
    for point in chosen:
        run = folder / str(point)
        for _ in range(2):
            code, _ = Child(lambda run=run, point=point: killed(run, steps, point)).join()
            kills += code == -signal.SIGKILL
        result = in_child(lambda run=run: train(run, steps))
        if result != reference or len(files(run)) != 4 or any(name.startswith(".") for name in files(run)):
            wrong.append({"point": point, "files": files(run), "result": result})
    return {"points": points, "kills": kills, "wrong": wrong}


def kill(folder: Path) -> dict:
    return sweep(folder, 14, STEPS)


def kill_everywhere(folder: Path) -> dict:
    return sweep(folder, None, 20)


def sigterm(folder: Path) -> dict:
    """A SIGTERM from outside, answered after the step in which it comes."""

    def before(step):
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    code, answer = Child(lambda: train(folder, before=before)).join()
    return {"code": code, "answer": answer, "files": files(folder)}


def disk_full(folder: Path) -> dict:
    """From step 5 on no file may grow beyond 1,000 bytes, as when the disk or a quota is full."""

    def before(step):
        if step == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    code, answer = Child(lambda: train(folder / "run", before=before, log_every=100)).join()
    left = files(folder / "run")
    reference = in_child(lambda: train(folder / "reference", log_every=100))
    same = in_child(lambda: train(folder / "run", log_every=100)) == reference
    return {"code": code, "answer": answer, "files": left, "same": same}


def read_only(folder: Path) -> dict:
    """The folder may not be written any more. Root may write everywhere, so root becomes somebody else."""

    def stop(step):
        if step == 6:
            os.kill(os.getpid(), signal.SIGKILL)

    run = folder / "run"
    Child(lambda: train(run, before=stop)).join()
    before = sorted(path.name for path in run.rglob("*"))

    def work():
        if os.geteuid() == 0:
            os.seteuid(65534)
        return train(run)

    for path in (run, run / "checkpoints"):
        path.chmod(0o555)
    folder.chmod(0o755)
    code, answer = Child(work).join()
    for path in (run, run / "checkpoints"):
        path.chmod(0o755)
    return {
        "code": code,
        "answer": answer,
        "same_files": sorted(path.name for path in run.rglob("*")) == before,
        "goes_on": in_child(lambda: train(run)) == in_child(lambda: train(folder / "reference")),
    }


def two_at_once(folder: Path) -> dict:
    """Two processes are told to do the same training in the same folder."""

    def work():
        steps: list[int] = []
        task = TinyTask(STEPS, before=steps.append)
        return len(set(steps)), outcome(task, fit(task, config(), folder), folder), len(set(steps))

    (_, one), (_, other) = [child.join() for child in [Child(work), Child(work)]]
    return {"steps": sorted([one[2], other[2]]), "same": one[1] == other[1]}


def rank(number: int, port: int, work: Callable[[], object]) -> Child:
    """Start one of two processes that find each other as those of torchrun do."""

    def joined():
        os.environ.update(RANK=str(number), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        with process_group(timeout=30):
            return work()

    return Child(joined)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def pair(work: Callable[[int], object]) -> list[tuple[int, object]]:
    """Return code and answer of `work(rank)` in two processes of one group."""
    port = free_port()
    return [child.join() for child in [rank(number, port, lambda n=number: work(n)) for number in (0, 1)]]


class PlainTask(LineTask):
    """A line fitted to data that differ between shards, with a bias that only every other step touches."""

    def __init__(self, before=None):
        super().__init__(before=before)
        self.line = torch.nn.Linear(3, 1)
        with torch.no_grad():
            self.line.weight.copy_(torch.tensor([[0.1, 0.2, 0.3]]))
            self.line.bias.zero_()
        self.modules = {"line": self.line}
        self.optimizers = {"main": torch.optim.Adam(self.line.parameters(), 0.1)}

    def loss(self, phase, step, shard):
        factor = self.before(step)
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))[shard.slice(8)]
        out = x @ self.line.weight.T + (self.line.bias if step % 2 else 0)
        loss = (out - x.sum(1, keepdim=True)).square().mean()
        return (loss if factor is None else loss * factor), {"rank": float(shard.rank)}

    def evaluate(self, step):
        return {"error": -float(self.line.weight.sum())}


def line(folder: Path, before=None) -> dict:
    task = PlainTask(before)
    result = fit(task, config(), folder)
    weights = [*task.line.weight.flatten().tolist(), *task.line.bias.tolist()]
    return {"weights": weights, **outcome(task, result, folder)}


def ranks(folder: Path) -> dict:
    """Two processes against one at an equal global batch."""
    alone = in_child(lambda: line(folder / "one"))
    return {"alone": alone, "together": pair(lambda n: line(folder / "two"))}


def rank_dies(folder: Path) -> dict:
    """One of two processes is killed; both are started again."""

    def before(number):
        def hook(step):
            if number == 1 and step == 6:
                os.kill(os.getpid(), signal.SIGKILL)

        return hook

    together = pair(lambda n: line(folder / "reference"))
    first = pair(lambda n: line(folder / "run", before(n)))
    return {"reference": together, "first": first, "second": pair(lambda n: line(folder / "run"))}


def precisions(folder: Path) -> dict:
    """Two processes that find different precisions faster, as on machines of two kinds."""

    def work(number: int, measured: tuple[Precision, Precision], run: Path) -> list[str]:
        training_folder.faster_precision = lambda device: measured[number]
        task = PlainTask()
        task.bf16 = True
        dtypes = set()

        def seen(step):
            with mixed_precision("cpu"):
                dtypes.add(str((torch.ones(2, 2) @ torch.ones(2, 2)).dtype))

        task.before = seen
        fit(task, config(), run)
        return sorted(dtypes)

    return {
        measured[0]: pair(lambda n, measured=measured: work(n, measured, folder / measured[0]))
        for measured in (("bfloat16", "float32"), ("float32", "bfloat16"))
    }


def rank_is_stopped(folder: Path) -> dict:
    """A signal reaches one of two processes only, then NaN comes to one only; both must do the same."""

    def stop(number):
        return lambda step: os.kill(os.getpid(), signal.SIGTERM) if (number, step) == (1, 6) else None

    def bad(number):
        return lambda step: float("nan") if (number, step) == (1, 9) else None

    reference = pair(lambda n: line(folder / "reference"))
    stopped = pair(lambda n: line(folder / "run", stop(n)))
    left = files(folder / "run")
    resumed = pair(lambda n: line(folder / "run"))
    return {
        "reference": reference,
        "stopped": stopped,
        "files": left,
        "resumed": resumed,
        "diverged": pair(lambda n: line(folder / "diverged", bad(n))),
        "another_world": in_child(lambda: after_two(folder / "another")),
    }


def after_two(folder: Path) -> dict:
    """Begin with two processes, go on with one."""
    pair(lambda n: line(folder, lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 6 else None))
    return line(folder)


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    torch.set_num_threads(1)
    # What torch imports at the first step is then there in every child.
    train(folder / "warm", 2)
    results = {}
    for name in names:
        (folder / name).mkdir()
        results[name] = globals()[name](folder / name)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
