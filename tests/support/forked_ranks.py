"""Several processes of one group, each forked from one that has torch warm; called like `forked_faults.py`."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from forked_faults import Child, free_port

from invkit.errors import DivergedError, InvkitError, SplitError
from invkit.training.lock import exclusive
from invkit.training.processes.distributed import average, barrier, by_first, current_shard, of_all
from invkit.training.processes.group import process_group


def environment(rank: int, world: int, port: int, *, slurm: bool = False) -> dict[str, str]:
    """Return what torchrun, or srun, tells one process."""
    names = (
        ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID") if slurm else ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    )
    told = dict(zip(names, map(str, (rank, world, rank)), strict=True))
    return {**told, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def ranks(world: int, work: Callable[[], object], *, slurm: bool = False) -> list[dict]:
    """Return what each of `world` processes ended with: its answer, or the error, and the exit code."""
    port = free_port()

    def joined(rank: int) -> object:
        os.environ.update(environment(rank, world, port, slurm=slurm))
        begun, found = time.monotonic(), {}
        try:
            with process_group(timeout=60, meeting=60):
                return {"answer": work()}
        except InvkitError as error:
            found = {"error": type(error).__name__, "code": error.exit_code, "message": str(error)}
        except Exception as error:
            found = {"bug": type(error).__name__, "message": str(error)}
        return {**found, "seconds": time.monotonic() - begun}

    children = [Child(lambda rank=rank: joined(rank)) for rank in range(world)]
    return [{"exit": code, **(answer or {})} for code, answer in (child.join() for child in children)]


def rank() -> int:
    return current_shard().rank


def place(folder: Path) -> dict:
    """Which of how many each process is, as torchrun and as srun tell it."""

    def who() -> list[int]:
        return [current_shard().rank, current_shard().world]

    return {"torchrun": ranks(2, who), "srun": ranks(2, who, slurm=True)}


def failures(folder: Path) -> dict:
    """One of three processes fails in one way or another, while the others wait, work or have ended."""

    def failing(who: int, error: Callable[[], BaseException], others: Callable[[], object]):
        def work() -> object:
            if rank() == who:
                time.sleep(0.3)
                raise error()
            return others()

        return work

    def slow() -> None:
        for _ in range(100):
            time.sleep(0.1)
            average(torch.zeros(1))

    def kill() -> BaseException:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    cases = {
        "first_fails": (0, lambda: DivergedError("it blew up"), barrier),
        "last_fails": (2, lambda: SplitError("no such layer"), barrier),
        "while_they_work": (1, lambda: DivergedError("it blew up"), slow),
        "when_they_have_ended": (1, lambda: DivergedError("it blew up"), lambda: None),
        "bug": (1, lambda: ValueError("a patient's name"), barrier),
        "ctrl_c": (1, KeyboardInterrupt, barrier),
        "killed": (1, kill, barrier),
        "killed_when_they_have_ended": (1, kill, lambda: None),
    }
    return {name: ranks(3, failing(*case)) for name, case in cases.items()}


def batch(folder: Path) -> dict:
    """A loss that is not linear in the batch's mean, in one process and shared by two and four."""

    def loss() -> list[float]:
        weight = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
        x = torch.randn(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        part = x[current_shard().slice(8)]
        value = of_all(((part @ weight) - 1).square().mean()).log()
        value.backward()
        return [*average(weight.grad).tolist(), value.item()]

    return {str(world): ranks(world, loss) for world in (1, 2, 4)}


def files(folder: Path) -> dict:
    """Rank 0 locks for all, and writes what all read."""

    def work() -> str:
        with exclusive(folder), exclusive(folder):
            by_first(lambda: (time.sleep(0.2), (folder / "written").write_text(f"by {rank()}")))
            return (folder / "written").read_text()

    return {"found": ranks(3, work)}


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
