"""Batches on their way to a device: the same ones in the same order, pinned and ahead on CUDA."""

import contextlib
import threading

import pytest
import torch

from invkit.training.feed import Feed, to_device

NO_GPU = "needs a CUDA device"


def batch(key):
    source = torch.Generator().manual_seed(key)
    return torch.randn(3, generator=source), torch.randn(2, 2, generator=source)


def test_on_a_cpu_batches_are_made_when_they_are_asked_for_and_are_what_was_made():
    asked = []

    def make(key):
        asked.append((key, threading.current_thread()))
        return batch(key)

    feed = Feed(make, "cpu")
    found = [feed.batch(key, following=key + 1) for key in (0, 1, 2, 7, 3)]
    assert asked == [(key, threading.main_thread()) for key in (0, 1, 2, 7, 3)]
    for key, tensors in zip((0, 1, 2, 7, 3), found, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(tensors, batch(key), strict=True))


def test_on_a_cpu_nothing_is_copied():
    tensor = torch.ones(3)
    assert to_device(tensor, "cpu") is tensor
    assert Feed(lambda key: (tensor,), "cpu").batch(0)[0] is tensor


class Fake:
    """Stands for CUDA: says what is done to tensors and streams, in order, and in which stream copies go."""

    def __init__(self, monkeypatch):
        self.log, self.within = [], None
        self.main, self.side = FakeStream(self, "main"), FakeStream(self, "side")
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: self.side)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self.main)
        monkeypatch.setattr(torch.cuda, "stream", self.entered)

    @contextlib.contextmanager
    def entered(self, stream):
        self.within = stream.name
        yield
        self.within = None

    def of(self, key):
        return [entry[1:] for entry in self.log if entry[0] == key]


class FakeStream:
    def __init__(self, cuda, name):
        self.cuda, self.name = cuda, name

    def record_event(self):
        return self.name

    def wait_event(self, event):
        self.cuda.log.append(("stream", self.name, "waits for", event))


class FakeTensor:
    def __init__(self, cuda, key):
        self.cuda, self.key, self.pinned = cuda, key, False

    def pin_memory(self):
        pinned = FakeTensor(self.cuda, self.key)
        pinned.pinned = True
        return pinned

    def to(self, device, *, non_blocking=False):
        self.cuda.log.append((self.key, "to", device.type, self.pinned, non_blocking, self.cuda.within))
        return self

    def record_stream(self, stream):
        self.cuda.log.append((self.key, "used in", stream.name))


def test_on_cuda_each_batch_is_pinned_copied_aside_and_waited_for(monkeypatch):
    cuda = Fake(monkeypatch)
    (tensor,) = Feed(lambda key: (FakeTensor(cuda, key),), "cuda").batch(5)
    assert tensor.key == 5
    assert cuda.log == [
        (5, "to", "cuda", True, True, "side"),
        ("stream", "main", "waits for", "side"),
        (5, "used in", "main"),
    ]


def test_on_cuda_the_batch_that_follows_is_made_before_it_is_asked_for(monkeypatch):
    cuda, made, done = Fake(monkeypatch), [], {key: threading.Event() for key in range(10)}

    def make(key):
        made.append((key, threading.current_thread() is threading.main_thread()))
        done[key].set()
        return (FakeTensor(cuda, key),)

    feed = Feed(make, "cuda")
    assert feed.batch(0, following=1)[0].key == 0
    assert done[1].wait(10)
    assert feed.batch(1, following=2)[0].key == 1
    # Training went back to a checkpoint: what was made ahead is of no use.
    assert feed.batch(7, following=8)[0].key == 7
    assert feed.batch(8)[0].key == 8
    assert made == [(0, False), (1, False), (2, False), (7, False), (8, False)]


def test_on_cuda_a_fault_comes_where_its_batch_is_asked_for(monkeypatch):
    Fake(monkeypatch)

    def make(key):
        if key == 1:
            raise ValueError("no such slice")
        return ()

    feed = Feed(make, "cuda")
    assert feed.batch(0, following=1) == ()
    with pytest.raises(ValueError, match="no such slice"):
        feed.batch(1, following=2)
    assert feed.batch(2) == ()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
def test_a_gpu_gets_the_batches_of_the_host_while_it_is_busy():
    feed, load = Feed(batch, "cuda"), torch.randn(2048, 2048, device="cuda")
    for key in range(50):
        load = (load @ load).tanh()
        tensors = feed.batch(key, following=key + 1)
        held = [tensor * 1 for tensor in tensors]
        for one, other in zip(held, batch(key), strict=True):
            assert one.is_cuda and torch.equal(one.cpu(), other)
