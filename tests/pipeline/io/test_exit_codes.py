"""What ends a command, and the line and code that it becomes."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest
import typer

from locloc.pipeline.errors import StoreError, os_error_reason
from locloc.pipeline.io.environment import STDOUT
from locloc.pipeline.io.exit_codes import exit_code_of


def ended_by(error: BaseException, capsys) -> tuple[int, str]:
    def command() -> None:
        raise error

    code = exit_code_of(command)
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (StoreError("no store\nhere"), "error: no store\\nhere\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/full/a.png"),
            "error: /full/a.png: no space left on device;",
        ),
        (OSError(errno.EXDEV, "x", "a", None, "b"), "error: a > b: x\n"),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", b"aa"),
            "error: aa: file name too long; give a shorter name\n",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"),
            "error: no usable temporary",
        ),
        (OSError("AF_UNIX path too long"), "error: AF_UNIX path too long\n"),
        (MemoryError(), "error: Not enough memory;"),
        (
            np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype(float)),
            "error: Not enough memory (Unable to allocate",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 20 GB"),
            "error: Not enough memory (",
        ),
        (RecursionError("maximum recursion depth exceeded"), "error: An input is nested too deeply"),
        (UnicodeEncodeError("ascii", "café", 3, 4, "ordinal not in range"), "error: The encoding ascii has no '\\xe9'"),
        (
            ModuleNotFoundError("No module named 'cv2'", name="cv2"),
            "is missing; install it: pip install opencv-python-",
        ),
        (
            ModuleNotFoundError("No module named 'dask_jobqueue'", name="dask_jobqueue"),
            "install it: pip install 'locloc[cluster]'\n",
        ),
        (
            ImportError("libtorch.so: cannot open", name="torch"),
            "torch is broken (libtorch.so: cannot open); install it",
        ),
        (ModuleNotFoundError("No module named '_lzma'", name="_lzma"), "error: This Python lacks"),
    ],
)
def test_one_line_without_a_traceback(error, says, capsys):
    code, err = ended_by(error, capsys)
    assert code == 1 and says in err and err.count("\n") == 1, err


def test_a_library_that_fails_while_it_is_imported_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outer_library.py").write_text("import inner_library")
    (tmp_path / "inner_library.py").write_text("raise ValueError('~/.config/inner.yaml\\nis malformed')")

    def command() -> None:
        import outer_library  # noqa: F401

    assert exit_code_of(command) == 1
    said = capsys.readouterr().err
    assert said == "error: The library inner_library cannot be imported: ~/.config/inner.yaml is malformed\n"


@pytest.mark.parametrize("error", [TypeError("no number"), AssertionError(), ImportError("gone", name="locloc.gone")])
def test_a_bug_is_raised_with_a_note_that_asks_for_a_report(error, capsys):
    with pytest.raises(type(error)) as raised:
        ended_by(error, capsys)
    assert "Please report it" in raised.value.__notes__[0]


def test_a_second_interrupt_while_the_first_is_reported(capsys, monkeypatch):
    def interrupted(line):
        raise KeyboardInterrupt

    monkeypatch.setattr("locloc.pipeline.io.console.print_error", interrupted)
    assert ended_by(KeyboardInterrupt(), capsys) == (130, "error: interrupted\n")


def test_an_interrupt_and_a_closed_pipe_have_their_customary_codes(capsys, monkeypatch):
    assert ended_by(KeyboardInterrupt(), capsys) == (130, "error: interrupted\n")
    monkeypatch.setattr("locloc.pipeline.io.exit_codes._drop_stdout", lambda: None)
    assert ended_by(BrokenPipeError(errno.EPIPE, "Broken pipe", STDOUT), capsys) == (141, "")
    assert ended_by(BrokenPipeError(errno.EPIPE, "Broken pipe"), capsys) == (1, "error: broken pipe\n")

    def exits_as_typer_does() -> None:
        try:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe", STDOUT)
        except BrokenPipeError:
            sys.exit(1)

    assert exit_code_of(exits_as_typer_does) == 141


def test_exit_codes_of_commands_are_kept(capsys):
    for code, expected in ((None, 0), (0, 0), (3, 3), ("text", 1)):
        assert exit_code_of(lambda code=code: sys.exit(code)) == expected


def test_debug_shows_the_traceback_of_every_error(capsys, monkeypatch):
    monkeypatch.setenv("LOCLOC_DEBUG", "1")
    code, err = ended_by(StoreError("no store"), capsys)
    assert code == 1 and "Traceback" in err and err.endswith("error: no store\n")


def test_the_reason_of_an_error_without_a_system_number():
    assert os_error_reason(OSError(-2, "Name or service not known")) == "name or service not known"
    assert os_error_reason(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) == "no space left on device"
    assert os_error_reason(TimeoutError()) == "TimeoutError"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_as_ctrl_c_does_and_files_are_removed(number, tmp_path, capsys):
    def command() -> None:
        with tempfile.TemporaryDirectory(dir=tmp_path):
            os.kill(os.getpid(), number)
            time.sleep(10)

    before = signal.getsignal(number)
    assert (exit_code_of(command), capsys.readouterr().err) == (130, "error: interrupted\n")
    assert os.listdir(tmp_path) == [] and signal.getsignal(number) == before


def test_a_signal_that_is_ignored_as_under_nohup_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert exit_code_of(lambda: os.kill(os.getpid(), signal.SIGHUP)) == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("own_words", "err"), [(False, "error: interrupted\n"), (True, "kept\n")])
def test_ctrl_c_inside_of_a_command_is_said_once(own_words, err, capsys):
    app = typer.Typer()

    @app.command()
    def command() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            if not own_words:
                raise
            print("kept", file=sys.stderr)
            raise typer.Exit(130) from None

    assert exit_code_of(lambda: app([])) == 130
    assert capsys.readouterr().err == err


def test_little_is_imported_before_a_command_can_be_interrupted_in_one_line():
    code = "import sys, locloc.__main__; print(*{'importlib.metadata', 'email', 'typer', 'rich'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "\n"
