"""Ctrl-C waits for the end of a commit, and then is not lost."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from locloc.pipeline.io.interrupts import interruptible, raise_if_interrupted, signals_held_back

STOPS = pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])


@pytest.fixture(autouse=True)
def as_in_a_terminal():
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


def test_an_ignored_signal_takes_no_other_with_it():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with pytest.raises(KeyboardInterrupt), interruptible(), signals_held_back():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)


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


class Interrupted:
    """The signal comes while Python collects it, as it may with Dask's futures."""

    def __init__(self, stop: signal.Signals):
        self.stop = stop

    def __del__(self):
        os.kill(os.getpid(), self.stop)


class Broken:
    """Its error is no interruption, and is printed as ever."""

    def __del__(self):
        raise ValueError("broken")


@STOPS
def test_an_interruption_that_python_drops_is_not_lost(stop, monkeypatch):
    dropped = []
    monkeypatch.setattr(sys, "unraisablehook", lambda event: dropped.append(event.exc_type))
    printing = sys.unraisablehook
    with interruptible():
        raise_if_interrupted()
        Interrupted(stop)  # raises nothing: it was dropped
        assert dropped == [], "a traceback that says nothing was printed"
        Broken()
        assert dropped == [ValueError]
        with pytest.raises(KeyboardInterrupt):
            raise_if_interrupted()
    raise_if_interrupted()  # the next command's is another matter
    assert sys.unraisablehook is printing


@STOPS
def test_interruptible_raises_at_once_and_after_a_commit(stop):
    before = signal.getsignal(stop)
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), stop)
    done = []
    with pytest.raises(KeyboardInterrupt), interruptible():
        with signals_held_back():
            os.kill(os.getpid(), stop)
            done.append("committed")
        done.append("went on")
    assert done == ["committed"]
    assert signal.getsignal(stop) == before


def test_a_job_in_the_background_is_not_interrupted_by_ctrl_c():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interruptible():
        os.kill(os.getpid(), signal.SIGINT)
        raise_if_interrupted()
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


HUNG_UP = """
import multiprocessing, os, signal, time
from locloc.pipeline.io.interrupts import interruptible
try:
    with interruptible():
        semaphores = [multiprocessing.get_context("spawn").Lock() for _ in range(3)]
        os.killpg(0, signal.SIGHUP)
        signal.pause()
except KeyboardInterrupt:
    time.sleep(0.5)  # time for a tracker to end
    print("interrupted")
"""


def test_a_terminal_that_closes_does_not_end_the_tracker_of_semaphores(tmp_path):
    """It would be started again, and print a traceback for each semaphore."""
    script = tmp_path / "hung_up.py"
    script.write_text(HUNG_UP)
    root = Path(sys.modules["locloc"].__file__).parents[1]
    command, environment = [sys.executable, str(script)], {**os.environ, "PYTHONPATH": str(root)}
    ended = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=120, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "interrupted\n", "")
