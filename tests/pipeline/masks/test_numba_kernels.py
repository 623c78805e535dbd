"""Kernels: compiled at import, kept on disk where that can be, and right where it cannot."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from numba import njit

import locloc
from locloc.pipeline.masks.numba_kernels import kernel


def _imported(file: Path) -> list[str]:
    """Modules that a file takes names from, as it writes them."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def test_a_kernel_calls_kernels_of_its_own_file_only():
    """Or Numba would go on with what it kept of another file's old kernels."""
    root = Path(locloc.__file__).parent
    sources = (file for part in ("pipeline", "trainer") for file in (root / part).rglob("*.py"))
    files = {file for file in sources if any(name.endswith("numba_kernels") for name in _imported(file))}
    assert {file.name for file in files} == {"fast_colours.py", "fast_cut.py", "fast_links.py", "contours.py"}
    for file in files:
        assert not [name for name in _imported(file) if any(name.endswith(other.stem) for other in files)], file.name


TWO_KERNELS = """
import resource, sys
sys.dont_write_bytecode = True
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from locloc.pipeline.masks.numba_kernels import kernel


@kernel()
def _twice(x):
    return 2 * x


@kernel("int64(int64)")
def thrice(x):
    return _twice(x) + x


print(thrice(5), thrice.stats.cache_path is not None)
"""


@pytest.mark.parametrize(("most_bytes", "kept"), [(1 << 30, True), (100, False)])
def test_a_kernel_compiles_where_nothing_can_be_kept(most_bytes, kept, tmp_path):
    """A file may have 100 bytes: as on a full disk, a kernel cannot be written, nor one that it calls."""
    (tmp_path / "kernels.py").write_text(TWO_KERNELS)
    environment = {
        "PYTHONPATH": str(Path(sys.modules["locloc"].__file__).parents[1]),
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
    }
    command = [sys.executable, str(tmp_path / "kernels.py"), str(most_bytes)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert (found.returncode, found.stdout, found.stderr) == (0, f"15 {kept}\n", "")
    assert bool(list((tmp_path / "cache").rglob("*.nbc"))) is kept


def test_a_kernel_compiles_where_numba_has_no_folder():
    """It says so by a RuntimeError; a function without a file has none either."""
    scope = {}
    exec(compile("def twice(x):\n    return 2 * x", "<nowhere>", "exec"), scope)
    with pytest.raises(RuntimeError, match="cannot cache"):
        njit(cache=True)(scope["twice"])
    assert kernel("int64(int64)")(scope["twice"])(3) == 6
