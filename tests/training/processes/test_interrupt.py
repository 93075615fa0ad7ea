import os
import signal
import threading

import pytest

from invkit.errors import InvkitError
from invkit.training.processes.interrupt import STOPPING, Interrupted, interrupts


def handlers():
    return [signal.getsignal(number) for number in STOPPING]


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)],
    ids=lambda n: str(int(n)),
)
def test_a_signal_is_noted_and_has_its_exit_code(number, code):
    before = handlers()
    with interrupts() as received:
        assert received.signal is None
        os.kill(os.getpid(), number)
        assert received.signal == number
    assert handlers() == before
    error = Interrupted(number)
    assert isinstance(error, InvkitError)
    assert error.exit_code == code
    assert error.signal == number
    assert number.name in str(error)


def test_a_second_ctrl_c_raises_at_once_and_the_handlers_come_back():
    before = handlers()
    noted = []

    def work():
        with interrupts() as received:
            os.kill(os.getpid(), signal.SIGINT)
            noted.append(received.signal)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert noted == [signal.SIGINT]
    assert handlers() == before


def test_repeated_terms_are_patient_and_ctrl_c_after_term_counts_as_the_first():
    with interrupts() as received:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert received.signal == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGINT)
        assert received.signal == signal.SIGINT


def test_handlers_come_back_after_an_error_and_in_nested_use():
    before = handlers()
    noted = []

    def work():
        with interrupts() as outer:
            with interrupts() as inner:
                os.kill(os.getpid(), signal.SIGTERM)
            noted.append((outer.signal, inner.signal))
            os.kill(os.getpid(), signal.SIGTERM)
            noted.append(outer.signal)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert noted == [(None, signal.SIGTERM), signal.SIGTERM]
    assert handlers() == before


def test_another_thread_installs_nothing():
    before, seen = handlers(), []

    def work():
        with interrupts() as received:
            seen.append((received.signal, handlers() == before))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, True)]
