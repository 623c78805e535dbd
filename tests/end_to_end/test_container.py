"""Images and machines without internet: the scripts of scripts/container, without a container engine."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import locloc

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts" / "container"
SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc")


def no_sandbox() -> str | None:
    """Why sandbox.sh cannot run here."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "namespaces are made by root on Linux"
    if not all(map(shutil.which, ("unshare", "ip", "chroot", "mount"))):
        return "unshare, ip, chroot or mount is missing"
    made = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "mount", "--make-rprivate", "/"]
    )
    return "this system lets nobody make namespaces" if made.returncode else None


def sandboxed(root: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a command in an empty root with this machine's programs and this environment's packages, read-only."""
    packages = Path(locloc.__file__).parent
    folders = {*filter(os.path.isdir, sys.path), sys.prefix, sys.base_prefix, str(packages)}
    binds = [word for folder in (*SYSTEM, *sorted(folders)) if os.path.exists(folder) for word in ("--bind", folder)]
    environment = os.environ | {"SANDBOX_PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    root.mkdir()
    return subprocess.run(
        ["sh", SCRIPTS / "sandbox.sh", root, *binds, *command],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_an_image_works_for_a_user_without_rights_on_a_read_only_root_and_without_network(tmp_path: Path):
    if why := no_sandbox():
        pytest.skip(why)
    run = SCRIPTS / "run.sh"
    where = (
        "import os, socket, pathlib\n"
        "print(os.getuid(), os.environ['HOME'], os.environ['NUMBA_CACHE_DIR'])\n"
        "for folder in ('/', '/usr', '/etc', '/dev', os.environ['HOME'], '/dev/shm'):\n"
        "    try: pathlib.Path(folder, 'x').touch(); print('writes', folder)\n"
        "    except OSError as error: print(error.strerror, folder)\n"
        "print([name for _, name in socket.if_nameindex()])\n"
    )
    answer = sandboxed(tmp_path / "root", "sh", run, "python", "-c", where)
    assert answer.stdout.splitlines() == [
        "1000 /tmp/locloc-1000/home /tmp/locloc-1000/numba",
        *(f"Read-only file system {folder}" for folder in ("/", "/usr", "/etc", "/dev")),
        "writes /tmp/locloc-1000/home",
        "writes /dev/shm",
        "['lo']",
    ], answer.stderr
    checked = sandboxed(tmp_path / "check", "sh", run, "sh", SCRIPTS / "check.sh", "/tmp/check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "Traceback" not in checked.stderr
    assert "mask IoU" in checked.stdout


def caches(folder: Path) -> str:
    """Where environment.sh has numba's cache, with `folder` for temporary files."""
    script = f". {SCRIPTS / 'environment.sh'}; echo $NUMBA_CACHE_DIR"
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(folder), "HOME": str(folder)}
    return subprocess.run(
        ["sh", "-euc", script], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_compiled_code_is_not_taken_from_a_folder_that_another_user_may_have_made(tmp_path: Path):
    own = tmp_path / f"locloc-{os.getuid()}"
    assert caches(tmp_path) == f"{own}/numba"
    assert own.stat().st_mode & 0o777 == 0o700
    own.rmdir()
    own.symlink_to(tmp_path / "theirs")
    (tmp_path / "theirs").mkdir()
    assert re.fullmatch(rf"{tmp_path}/locloc-\w{{6}}/numba", caches(tmp_path))


def test_both_images_install_and_start_by_the_scripts_that_are_tested():
    for recipe in ("Dockerfile", "apptainer.def"):
        named = set(re.findall(r"/usr/local/lib/locloc/([\w.]+)", (ROOT / recipe).read_text()))
        assert {"install.sh", "run.sh"} <= named
        assert all((SCRIPTS / name).is_file() for name in named)


def test_wheels_for_another_machine_are_all_that_run_there(monkeypatch: pytest.MonkeyPatch):
    from packaging import tags

    monkeypatch.syspath_prepend(ROOT / "scripts")
    wheelhouse = importlib.import_module("wheelhouse")
    here = [tag for tag in tags.platform_tags() if tag.startswith("manylinux")]
    if here:  # this machine stands for the other one
        assert sorted(wheelhouse.platform_tags(here[0])) == sorted(here)
    assert wheelhouse.platform_tags("macosx_14_0_arm64") == ["macosx_14_0_arm64"]
    assert wheelhouse.uv_platform("macosx_14_0_arm64") == "aarch64-apple-darwin"
    assert wheelhouse.uv_platform("manylinux_2_28_aarch64") == "aarch64-manylinux_2_28"
    with pytest.raises(SystemExit, match="--platform win_amd64: write manylinux_2_28_x86_64"):
        wheelhouse.uv_platform("win_amd64")
