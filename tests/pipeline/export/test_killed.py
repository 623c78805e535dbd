"""An export whose process is killed leaves nothing under its name, and the same command then makes all of it."""

import json
import subprocess
import sys

import pytest

from locloc.pipeline.export import EXPORTERS, export_version

KILLED = """
import os, signal, sys
from locloc.pipeline.export import ExportOptions, export_version
from locloc.pipeline.export.{module} import {name}
from locloc.pipeline.store import open_version
real, seen = {name}.write, []
def write(self, row):
    real(self, row)
    seen.append(row)
    if len(seen) == 40:
        os.kill(os.getpid(), signal.SIGKILL)
{name}.write = write
export_version(open_version(sys.argv[1]), sys.argv[2], sys.argv[3])
"""


@pytest.mark.slow
@pytest.mark.parametrize("to", ["coco", "parquet", "webdataset", "png"])
def test_killed_and_begun_again(version, tmp_path, to):
    out, make = tmp_path / "out", EXPORTERS[to]
    code = KILLED.format(module=to, name=make.__name__)
    killed = subprocess.run([sys.executable, "-c", code, version.name, out, to], capture_output=True, timeout=300)
    assert killed.returncode == -9, killed.stderr
    assert not out.exists()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out-") and any(left.rglob("*"))
    exported = export_version(version, out, to)
    export_version(version, tmp_path / "undisturbed", to)
    files = {file.relative_to(out): file.read_bytes() for file in out.rglob("*") if file.is_file()}
    again = tmp_path / "undisturbed"
    assert files == {file.relative_to(again): file.read_bytes() for file in again.rglob("*") if file.is_file()}
    assert exported.rows > 40 and json.loads((out / "export.json").read_text())
