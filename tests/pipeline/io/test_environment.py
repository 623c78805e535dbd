"""Environments in which a command has to start. Each is a process that imports the standard library alone."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from locloc.pipeline.io import environment

REPORT = (
    "import json, os, sys; from locloc.pipeline.io.environment import prepare_environment; prepare_environment(); "
    "open('report', 'w').write(json.dumps([os.environ.get('HOME'), os.environ.get('LOGNAME'), "
    "sys.getfilesystemencoding(), sys.warnoptions, os.listdir('.')])); "
)


def run(folder: Path, code: str = "", prefix: str = "", shell: str = "", **variables: str | None) -> list:
    """Runs `code` after REPORT; `shell` holds redirections. Returns the report."""
    env = {name: value for name, value in (os.environ | variables).items() if value is not None}
    command = f"{prefix} '{sys.executable}' -c \"$CODE\" {shell}"
    subprocess.run(command, shell=True, cwd=folder, env=env | {"CODE": REPORT + code}, check=True, timeout=60)
    return json.loads((folder / "report").read_text())


def test_a_closed_stream_does_not_give_its_number_to_the_next_file(tmp_path):
    run(
        tmp_path, "print('lost'); os.system('echo lost too'); assert open('kept', 'w').fileno() > 2", "", ">&- 2>&- <&-"
    )
    assert (tmp_path / "kept").read_text() == "" and "lost" not in (tmp_path / "report").read_text()


def test_names_are_utf8_in_every_locale_and_output_is_escaped(tmp_path):
    (tmp_path / "café.jpg").touch()
    latin = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "iso8859-1"}
    *_, encoding, _, names = run(tmp_path, "print(chr(0xe9), chr(0x65e5), chr(0xdce9))", "", "> out", **latin)
    assert encoding == "utf-8" and "café.jpg" in names
    assert (tmp_path / "out").read_bytes() == b"\xe9 \\u65e5 \\udce9\n"


def test_errors_of_standard_output_say_so_and_those_of_standard_error_are_dropped(tmp_path):
    fails = "\ntry: print('x', flush=True)\nexcept OSError as error: open('error', 'w').write(str(error.filename))"
    run(tmp_path, "print('x', file=sys.stderr, flush=True)" + fails, "", "2>/dev/full >/dev/full")
    assert (tmp_path / "error").read_text() == environment.STDOUT


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user id")
def test_a_user_without_a_passwd_entry_gets_a_home_and_a_name():
    folder = Path(tempfile.mkdtemp())  # tmp_path lies in a folder that only its owner may enter
    folder.chmod(0o777)
    nobody = dict.fromkeys(("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"))
    change = "os.setgroups([]); os.setgid(54321); os.setuid(54321)"
    code = REPORT.replace(" prepare_environment();", f" {change}; prepare_environment();")  # Python may lie in /root
    env = {name: value for name, value in os.environ.items() if name not in nobody} | {"TMPDIR": str(folder)}
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, check=True, timeout=60)
    home, name, *_ = json.loads((folder / "report").read_text())
    assert (home, name) == (str(folder / "locloc-home-54321"), "uid54321")
    assert Path(home).stat().st_mode & 0o777 == 0o700
    shutil.rmtree(folder)


def test_a_home_that_does_not_exist_is_replaced_and_another_kept(tmp_path):
    assert Path(run(tmp_path, HOME=str(tmp_path / "gone"))[0]).is_dir()
    assert run(tmp_path, HOME=str(tmp_path))[0] == str(tmp_path)


def test_a_home_that_others_can_write_to_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(environment.tempfile, "tempdir", str(tmp_path))
    first = environment._temporary_home()
    assert Path(first).name == f"locloc-home-{os.getuid()}" and environment._temporary_home() == first
    Path(first).chmod(0o777)
    assert environment._temporary_home() != first
    Path(first).rmdir()
    Path(first).symlink_to(tmp_path)
    assert environment._temporary_home() != first


def test_warnings_are_printed_where_they_would_be_raised(tmp_path):
    warns = "import warnings; warnings.warn('old', DeprecationWarning)"
    assert run(tmp_path, warns, "", "2> err", PYTHONWARNINGS="error")[3] == []
    assert "DeprecationWarning: old" in (tmp_path / "err").read_text()
