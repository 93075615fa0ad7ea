"""Pieces side by side: the same results in the same order, whatever the number of threads."""

import threading
import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from invkit.split.split import Split
from invkit.training.processes.workers import side_by_side


@pytest.fixture
def threads() -> Iterator[None]:
    """Three torch threads, and in the end as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


class Remembering(nn.Module):
    """A network that keeps something while it runs, as some U-Nets keep their skips: two passes must not meet in it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 1, 3, padding=1)
        self.skip: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.skip = x
        h = self.first(x)
        time.sleep(0.002)  # time for another thread
        assert self.skip is x
        return self.skip + self.second(h)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 20])
def test_results_come_in_order(threads: None, count: int) -> None:
    def slow_first(index: int, _: None) -> int:
        time.sleep(0.01 if index == 0 else 0)
        return index**2

    assert list(side_by_side(count, slow_first, None)) == [index**2 for index in range(count)]


def test_a_layer_captured_side_by_side_is_what_it_is_alone(threads: None) -> None:
    split = Split(Remembering(), "first")
    images = torch.randn(12, 2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    found = list(side_by_side(12, lambda index, own: own.phi(images[index]), split))
    for image, z in zip(images, found, strict=True):
        torch.testing.assert_close(z, split.phi(image))


def test_workers_have_one_thread_and_the_gradient_mode_of_the_caller(threads: None) -> None:
    def look(index: int, _: None) -> tuple[int, bool, bool]:
        apart = threading.current_thread() is not threading.main_thread()
        return torch.get_num_threads(), torch.is_grad_enabled(), apart

    with torch.no_grad():
        assert set(side_by_side(6, look, None)) == {(1, False, True)}
    assert set(side_by_side(6, look, None)) == {(1, True, True)}
    assert torch.get_num_threads() == 3
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [3]


def test_threads_are_shared_out_where_there_are_fewer_pieces(threads: None) -> None:
    torch.set_num_threads(6)
    assert list(side_by_side(2, lambda index, _: torch.get_num_threads(), None)) == [3, 3]
    assert torch.get_num_threads() == 6


def test_one_thread_does_all_itself(threads: None) -> None:
    torch.set_num_threads(1)
    own: list[int] = []
    assert list(side_by_side(3, lambda index, mine: mine is own, own)) == [True] * 3


def test_what_cannot_be_copied_is_used_by_one_at_a_time(threads: None) -> None:
    lock = threading.Lock()  # cannot be copied

    def work(index: int, own: object) -> bool:
        assert lock.acquire(blocking=False)
        lock.release()
        return own is lock

    assert list(side_by_side(5, work, lock)) == [True] * 5


def test_an_error_reaches_the_caller_and_ends_the_rest(threads: None) -> None:
    begun: list[int] = []

    def work(index: int, _: None) -> int:
        begun.append(index)
        if index == 2:
            raise ValueError("piece 2")
        return index

    with pytest.raises(ValueError, match="piece 2"):
        list(side_by_side(1000, work, None))
    assert len(begun) < 20


def test_few_pieces_are_ahead_of_who_takes_them(threads: None) -> None:
    begun: list[int] = []
    pieces = side_by_side(100, lambda index, _: begun.append(index), None)
    next(pieces)
    time.sleep(0.05)
    assert len(begun) <= 7
    pieces.close()  # type: ignore[attr-defined]
