"""Ctrl-C waits for the end of a commit, and then is not lost."""

import os
import signal
import threading

import pytest

from locloc.pipeline.signals import signals_held_back


@pytest.fixture(autouse=True)
def interruptible():
    """Python's own handler, also where the tests were started with SIGINT ignored, as shells do in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_comes_after_the_block():
    done = []
    with pytest.raises(KeyboardInterrupt), signals_held_back():
        os.kill(os.getpid(), signal.SIGINT)
        done.append("committed")
    assert done == ["committed"]


def test_handlers_are_as_before_and_nothing_is_raised_without_a_signal():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with signals_held_back():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with signals_held_back():
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_an_error_in_the_block_is_the_one_that_is_seen():
    with pytest.raises(ValueError, match="disk full"), signals_held_back():
        raise ValueError("disk full")


def test_other_threads_are_left_alone():
    seen = []

    def work():
        with signals_held_back():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
