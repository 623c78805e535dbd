"""Prepares the process of a command for environments that Python, or a library, would end in a traceback.

`locloc.__main__` calls `prepare_environment` before it imports anything but the standard library. What is set here
is inherited by worker processes.
"""

import os
import pwd
import stat
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STDOUT = "standard output"
"""The file name of errors in writing to it."""

_USER_NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")


def prepare_environment() -> None:
    _open_closed_streams()
    _use_utf8()
    _prepare_output()
    _provide_home()
    _show_warnings_instead_of_raising()


def _open_closed_streams() -> None:
    """Opens the null device where standard input, output or error is closed, as after `>&-`.

    The next file that is opened, a store's perhaps, would get the number of the closed stream, and receive what is
    printed.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # for the whole process


def _use_utf8() -> None:
    """Starts Python again in UTF-8 mode where the locale has another encoding, such as ISO-8859-1 or ASCII.

    File names are bytes. Ids are made of names, so the same files would get other ids under another locale. Python
    chooses the encoding of file names at its start, so this cannot be changed later. Output keeps the encoding of the
    locale, which the terminal expects.
    """
    if sys.getfilesystemencoding().lower() == "utf-8" or os.environ.get("PYTHONUTF8") == "1" or not sys.executable:
        return
    os.environ["PYTHONUTF8"] = "1"
    os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding}:backslashreplace")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _prepare_output() -> None:
    """Escapes what an encoding lacks, names standard output in its errors, and drops those of standard error.

    Standard error has progress and messages: a full disk under its file must not stop a build. What is lost of
    standard output is an error.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if not isinstance(sys.stdout, _Output):
        sys.stdout = _Output(sys.stdout, STDOUT)
        sys.stderr = _Output(sys.stderr, None)


class _Output:
    """A stream whose errors have the file name `name`; without a name they are dropped."""

    def __init__(self, stream: Any, name: str | None):
        self._stream, self._name = stream, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._named_errors():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._named_errors():
            self._stream.flush()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._name is not None:
                raise OSError(error.errno, error.strerror, self._name) from error


def _provide_home() -> None:
    """A home folder that exists, and a user name, for user ids without them, as in containers and batch systems.

    Libraries ask for both when they are imported, and some would make a folder named `~`. The folder is in the
    folder for temporary files and is kept, since compiled kernels and downloaded weights are cached there.
    """
    try:
        home, name = (entry := pwd.getpwuid(os.getuid())).pw_dir, entry.pw_name
    except KeyError:
        home, name = "", f"uid{os.getuid()}"
    if not os.path.isdir(os.environ.get("HOME", "")):
        os.environ["HOME"] = home if os.path.isdir(home) else _temporary_home()
    elif not os.access(os.environ["HOME"], os.W_OK):  # may hold weights; matplotlib alone complains
        os.environ.setdefault("MPLCONFIGDIR", _temporary_home())
    if not any(os.environ.get(variable) for variable in _USER_NAMES):
        os.environ["LOGNAME"] = name


def _temporary_home() -> str:
    """`/tmp/locloc-home-UID`, if it is a folder that nobody else can write to; else a new folder."""
    folder = Path(tempfile.gettempdir(), f"locloc-home-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return tempfile.mkdtemp(prefix="locloc-home-")
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
        return str(folder)
    return tempfile.mkdtemp(prefix="locloc-home-")


def _show_warnings_instead_of_raising() -> None:
    """Prints warnings where `PYTHONWARNINGS=error` or `python -W error` would raise them: libraries warn at import."""
    if any(option.startswith("e") for option in sys.warnoptions):
        sys.warnoptions.clear()  # worker processes are started with these
        os.environ.pop("PYTHONWARNINGS", None)
        warnings.resetwarnings()
        warnings.simplefilter("default")
