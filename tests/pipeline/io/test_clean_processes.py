"""Processes of the method `forkserver` end with the one that asked for them, also where that is killed."""

import os
import signal
import subprocess
import sys
import time

import psutil

WAITS_FOR_EVER = """
import multiprocessing, os, sys, time
from locloc.pipeline.io.clean_processes import clean_processes, end_with_parent

def work():
    end_with_parent()
    print(os.getpid(), os.getppid(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    process = clean_processes().Process(target=work)
    process.start()
    process.join()
"""


def test_processes_end_with_one_that_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(WAITS_FOR_EVER)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        ids = [int(number) for number in parent.stdout.readline().split()]
        assert all(map(psutil.pid_exists, ids)) and parent.pid not in ids
        os.kill(parent.pid, signal.SIGKILL)
        end = time.monotonic() + 20
        while left := [number for number in ids if psutil.pid_exists(number)]:
            assert time.monotonic() < end, left
            time.sleep(0.05)
