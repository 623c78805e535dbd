"""A backbone is described in a fork of the process that workers are forked from, as it is in this process."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from locloc.pipeline.backbones.create import BUNDLED
from locloc.pipeline.backbones.spec import BUNDLED_NAMES, BackboneSpec
from locloc.pipeline.build.cluster.spec import ClusterSpec
from locloc.pipeline.build.describe import BackboneFacts, _describe_in_a_fork, describe, local_kernels
from locloc.pipeline.errors import BackboneError, BuildError
from locloc.pipeline.recipe import load_recipe

POCKET = BackboneSpec("pocket", size_px=64)


def test_bundled_backbones_are_known_without_torch():
    assert set(BUNDLED_NAMES) == set(BUNDLED)


def test_only_local_workers_are_forked():
    recipe = load_recipe("contrast")
    kernels = local_kernels(recipe, ClusterSpec(2))
    assert kernels and all(name.startswith("locloc.pipeline.masks") for name in kernels)
    assert local_kernels(recipe, ClusterSpec(2, scheduler="tcp://host:1")) is None
    assert local_kernels(recipe, ClusterSpec(2, slurm=Path("jobs.toml"))) is None


class Deadly(BackboneSpec):
    """Ends the process that unpickles it."""

    def __reduce__(self):
        return os._exit, (3,)


@pytest.mark.slow
def test_a_fork_says_what_this_process_says(tmp_path):
    facts = _describe_in_a_fork(POCKET, ())
    assert facts == describe(POCKET, None, ()) and isinstance(facts, BackboneFacts)
    broken = replace(POCKET, weights=str(tmp_path / "broken.pth"))
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    messages = []
    for load in (_describe_in_a_fork, lambda spec, kernels: describe(spec)):
        with pytest.raises(BackboneError) as raised:
            load(broken, ())
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
    with pytest.raises(BuildError, match=r"^the process that loads pocket ended with 3 "):
        _describe_in_a_fork(Deadly("pocket"), ())


@pytest.mark.slow
def test_a_dry_run_imports_no_torch(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"not read")
    command = ["masks", "build", str(tmp_path / "images"), "--store", str(tmp_path / "s"), "--dry-run"]
    script = (
        f"import sys; sys.argv = ['locloc', *{command}]\n"
        "from locloc.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "print([name for name in ('torch', 'timm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "Would build 1 images" in done.stdout and done.stdout.endswith("[]\n")
