"""Processes forked as local workers are can use a store: Icechunk 2 starts threads at import, which forks have not."""

import subprocess
import sys

FORKED = """
import multiprocessing, sys
from locloc.pipeline.build import forkserver

def read(store):
    from locloc.pipeline.store import open_version
    print(open_version(store).read_column("mask", [3]).any())

if __name__ == "__main__":
    quick = [name for name in forkserver.MODULES if name != "distributed" and "backbones" not in name]  # without torch
    assert quick
    forkserver.MODULES = quick
    forkserver.begin_forkserver(())
    process = multiprocessing.get_context("forkserver").Process(target=read, args=(sys.argv[1],), daemon=True)
    process.start()
    process.join(60)
    sys.exit(process.exitcode)
"""


def test_a_forked_process_reads_a_store(store, build, tmp_path):
    build.publish(store)
    (tmp_path / "forked.py").write_text(FORKED)
    command = [sys.executable, tmp_path / "forked.py", f"{store}@v1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
