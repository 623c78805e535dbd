"""A main thread that waits in C, as for another rank, and a signal: in processes of their own, since they end."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

WAITS = """
import ctypes, signal, sys, threading, time
from locloc.pipeline.io import signal_watch
from locloc.pipeline.io.interrupts import interruptible
signal.signal(signal.SIGINT, signal.default_int_handler)
signal_watch.SAY_AFTER_S, signal_watch.STOP_S = 0.2, 0.5
exit_after_s, c_s, python_s, heard = eval(sys.argv[1])
c, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
c.pthread_mutex_lock(mutex)
threading.Thread(target=lambda: (time.sleep(c_s), c.pthread_mutex_unlock(mutex)), daemon=True).start()
try:
    with interruptible(), signal_watch.watched(exit_after_s, "stopped while it waited"):
        print("waits", flush=True)
        try:
            c.pthread_mutex_lock(mutex)  # waits in C, and no signal ends it
            time.sleep(0)
        except KeyboardInterrupt:
            if heard:
                signal_watch.heard_signal()
            time.sleep(python_s)
            raise
except KeyboardInterrupt:
    print("ended by itself", flush=True)
"""


@contextmanager
def waiting(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS, repr(arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "waits\n"
            time.sleep(0.1)  # until it is in C
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_rank_that_is_stuck_ends_within_the_limit(stop):
    with waiting(0.3, 30, 0, False) as process:
        begun = time.monotonic()
        process.send_signal(stop)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130 and out == "" and err == f"\n{stop.name}: stopped while it waited\n"
    assert time.monotonic() < begun + 4


def test_one_that_hears_in_time_ends_by_itself():
    with waiting(2, 0.3, 0, False) as process:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "ended by itself\n", "")


def test_one_that_saves_its_state_gets_time_for_it_and_not_for_ever():
    for python_s, said, code in ((0.3, "ended by itself\n", 0), (30, "", 130)):
        with waiting(2, 0.4, python_s, True) as process:
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=20)
        assert (process.returncode, out) == (code, said)


def test_a_long_step_says_that_it_has_heard_and_a_second_signal_ends_it():
    with waiting(None, 30, 0, False) as process:
        assert process.stderr is not None
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)  # passed on twice by a wrapper: no second wish
        assert process.stderr.readline() + process.stderr.readline() == "\nSIGINT: stopped while it waited\n"
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130


def test_a_long_step_that_ends_is_waited_for():
    with waiting(None, 0.6, 0, False) as process:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "ended by itself\n", "\nSIGTERM: stopped while it waited\n")
