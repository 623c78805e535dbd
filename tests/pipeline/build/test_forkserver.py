"""The process that workers are forked from, begun before anything needs it."""

import os
import subprocess
import sys
import time

import psutil
import pytest

UNUSED = """
from multiprocessing import forkserver
from locloc.pipeline.build.forkserver import begin_early

begin_early()
print(forkserver._forkserver._forkserver_pid)
"""

USED = """
import multiprocessing, sys
from locloc.pipeline.build.forkserver import begin_early, begin_forkserver, wait_for_forkserver

def modules(queue):
    import os
    queue.put((os.environ["OMP_NUM_THREADS"], "torch" in sys.modules, "icechunk" in sys.modules, os.getppid()))

if __name__ == "__main__":
    begin_early()
    begin_forkserver()  # as local workers do
    wait_for_forkserver()
    context = multiprocessing.get_context("forkserver")
    queue = context.SimpleQueue()
    for number in range(2):
        process = context.Process(target=modules, args=(queue,))
        process.start()
        process.join()
    assert (one := queue.get()) == queue.get() and one[1:3] == (True, False), one
    print(process.exitcode, "torch" in sys.modules)
"""

PRELOADED = """
import multiprocessing, sys
from locloc.pipeline.build import forkserver

def modules():
    print("broken" in sys.modules, "whole" in sys.modules)

if __name__ == "__main__":
    forkserver.MODULES = ("broken",)
    forkserver.begin_forkserver(("whole",))
    process = multiprocessing.get_context("forkserver").Process(target=modules)
    process.start()
    process.join()
"""


def test_a_command_that_ends_early_leaves_no_process():
    """Were it left, it would hold this pipe open for as long as it imports torch."""
    ended = subprocess.run([sys.executable, "-c", UNUSED], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert not psutil.pid_exists(int(ended.stdout))


@pytest.mark.slow
def test_workers_are_forked_from_the_process_that_was_begun_early(tmp_path):
    (tmp_path / "used.py").write_text(USED)
    ended = subprocess.run([sys.executable, tmp_path / "used.py"], capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stdout) == (0, "0 False\n"), ended.stderr


def test_what_cannot_be_imported_there_says_nothing_and_the_rest_is_imported(tmp_path):
    (tmp_path / "broken.py").write_text("raise ValueError('a configuration is malformed')\n")
    (tmp_path / "whole.py").write_text("")
    (tmp_path / "preloaded.py").write_text(PRELOADED)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, tmp_path / "preloaded.py"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "False True\n", "")


def test_a_mistyped_folder_is_told_at_once_and_leaves_no_process(tmp_path):
    command = [sys.executable, "-m", "locloc", "masks", "build", "nosuch", "--store", "s", "--workers", "1"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and "nosuch" in errors and len(errors.splitlines()) == 1
    give_up = time.monotonic() + 5  # Python's resource tracker ends by itself, once nobody has its pipe any more
    while left := [left for left in psutil.process_iter(["status"]) if _runs_in(process.pid, left)]:
        assert time.monotonic() < give_up, left
        time.sleep(0.05)


def _runs_in(session: int, process: psutil.Process) -> bool:
    try:
        return os.getsid(process.pid) == session and process.info["status"] != psutil.STATUS_ZOMBIE
    except OSError:
        return False
