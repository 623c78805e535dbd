"""The watchdog kills a process that hangs. Each test runs it in a child process."""

import signal
import subprocess
import sys

import pytest

from locloc.pipeline.build.watchdog import watchdog

BEGIN = "import ctypes, signal, threading, time\nfrom locloc.pipeline.build.watchdog import watchdog\n"
HANGS = {
    "python": "while True: pass",
    "C, holding the lock": "ctypes.PyDLL(None).pause()",
    "C, without the lock": "ctypes.CDLL(None).pause()",
    "a lock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
}


def ends_with(code: str) -> int:
    return subprocess.run([sys.executable, "-c", BEGIN + code], timeout=30, check=False).returncode


@pytest.mark.parametrize("hang", HANGS.values(), ids=HANGS)
def test_a_process_that_hangs_is_killed(hang):
    assert ends_with(f"with watchdog(0.3):\n    {hang}") == -signal.SIGALRM


def test_a_process_that_hangs_after_it_was_fed_is_killed():
    code = "with watchdog(0.3) as feed:\n    feed(); time.sleep(0.1); feed(); ctypes.PyDLL(None).pause()"
    assert ends_with(code) == -signal.SIGALRM


def test_work_in_another_thread_is_limited_too():
    """Dask runs tasks in threads."""
    code = (
        "def work():\n"
        "    with watchdog(0.3): ctypes.PyDLL(None).pause()\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()"
    )
    assert ends_with(code) == -signal.SIGALRM


def test_a_process_that_feeds_in_time_lives_and_the_timer_is_off_afterwards():
    code = (
        "start = time.monotonic()\n"
        "with watchdog(0.5) as feed:\n"
        "    while time.monotonic() < start + 1.2: feed(); time.sleep(0.05)\n"
        "assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)\n"
        "time.sleep(0.7)"
    )
    assert ends_with(code) == 0


def test_the_timer_is_off_after_an_error():
    before = signal.getitimer(signal.ITIMER_REAL)
    with pytest.raises(ValueError), watchdog(60):
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 60
        raise ValueError
    assert signal.getitimer(signal.ITIMER_REAL) == before == (0.0, 0.0)


def test_without_a_limit_there_is_no_timer():
    with watchdog(None) as feed:
        feed()
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
