"""Ends a command with one line and an exit code, whatever ended it.

    what ended it                                             line                                   exit code
    LocLocError                                               error: its message                     1
    OSError, MemoryError, RecursionError, UnicodeEncodeError  error: what, where, and what mends it  1
    a library that is missing or cannot be imported           error: which, and how to install it    1
    Ctrl-C, SIGTERM, or SIGHUP of a terminal that closes      error: interrupted                     130
    standard output is a pipe that its reader has closed      none: as of a program that SIGPIPE ends  141
    anything else, a bug                                      raised, with a note that asks for a report: a traceback

With `LOCLOC_DEBUG=1` a traceback comes before each line. Imports nothing but the standard library, since a library
may be what is broken; and little of it, since Ctrl-C meanwhile is a traceback.
"""

import errno
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from ..errors import LocLocError, os_error_reason
from .environment import STDOUT

FAILED, INTERRUPTED, PIPE_CLOSED = 1, 130, 141
REPORT_TO = "https://github.com/locloc/locloc/issues"

_HINTS = {
    errno.ENOSPC: "free space there, or name another place",
    errno.EDQUOT: "free space there, or name another place",
    errno.EACCES: "name a place that this user may use",
    errno.EPERM: "name a place that this user may use",
    errno.EROFS: "name a place that can be written to",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}

# torch and OpenCV raise RuntimeErrors without a class of their own, on a CPU.
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|[Ff]ailed to allocate|[Ii]nsufficient memory|bad.alloc")

_DISTRIBUTIONS = {"cv2": "opencv-python-headless", "PIL": "pillow", "yaml": "pyyaml", "google": "google-auth"}
"""Names to install by, where they are not the names to import."""


def exit_code_of(command: Callable[[], object]) -> int:
    """Runs a command to its end, reports what ended it, and returns the exit code. Raises what is a bug."""
    try:
        try:
            with _signals_as_interrupts():
                command()
            code: object = 0
        except SystemExit as exit:
            if isinstance(exit.__context__, BrokenPipeError):  # typer and rich exit with 1
                raise exit.__context__ from None
            if isinstance(cause := getattr(exit.__context__, "__cause__", None), KeyboardInterrupt):
                raise cause from None  # typer exits with 130 without a word
            code = exit.code
        sys.stdout.flush()
    except BrokenPipeError as error:
        if error.filename != STDOUT:
            return _report(error)
        _drop_stdout()
        return PIPE_CLOSED
    except BaseException as error:
        return _report(error)
    if isinstance(code, str):
        print(code, file=sys.stderr)
    return code if isinstance(code, int) else FAILED if code else 0


@contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt, so that temporary files are removed. Those ignored stay ignored."""
    numbers = (signal.SIGTERM, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def error_line(error: BaseException) -> str | None:
    """What is wrong, where, and what mends it; None for a bug."""
    if isinstance(error, LocLocError):
        return str(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))):
        what = next(iter(str(error).splitlines()), "")
        return f"Not enough memory{f' ({what})' if what else ''}; use fewer --workers, a smaller batch or smaller sizes"
    if library := _broken_library(error):
        return library
    if isinstance(error, OSError):
        return _os_error_line(error)
    if isinstance(error, RecursionError):
        return f"An input is nested too deeply: {error}"
    if isinstance(error, UnicodeEncodeError):
        text = ascii(error.object[error.start : error.end])
        return f"The encoding {error.encoding} has no {text} of {ascii(error.object)[:200]}; rename what is named so"
    return None


def _report(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        line, code = "interrupted", INTERRUPTED
    elif (found := error_line(error)) is not None:
        line, code = found, FAILED
    else:
        error.add_note(f"This is a bug in locloc. Please report it, with all of these lines, at {REPORT_TO}")
        raise error
    if os.environ.get("LOCLOC_DEBUG", "0") not in ("", "0"):
        traceback.print_exception(error, file=sys.stderr)
    _print_error(line)
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        _drop_stdout()
    return code


def _print_error(line: str) -> None:
    try:
        from .console import print_error

        print_error(line)
    except (Exception, KeyboardInterrupt):  # rich is missing, or memory is; or Ctrl-C came once more
        print(f"error: {' '.join(line.split())}", file=sys.stderr)


def _drop_stdout() -> None:
    """Sends the rest of standard output nowhere: Python writes it at exit, and would print a traceback."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def _os_error_line(error: OSError) -> str:
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    where = f"{' > '.join(names)}: " if names else ""
    hint = _HINTS.get(error.errno or 0)
    return f"{where}{os_error_reason(error)}{f'; {hint}' if hint else ''}"


def _broken_library(error: BaseException) -> str | None:
    """The line for a library whose import ended in `error`, which is of any class; None for other errors."""
    importing = _library_being_imported(error.__traceback__)
    named = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    text = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if named == "locloc":
        return None
    if named in sys.stdlib_module_names:
        return f"This Python lacks a part of its standard library ({text}); use a complete Python"
    if not (library := named or importing):
        return f"A library is missing or broken: {text}" if isinstance(error, ImportError) else None
    if isinstance(error, ModuleNotFoundError):
        return f"The library {library} is missing; install it: pip install {_requirement(library)}"
    if isinstance(error, ImportError | OSError | AttributeError):
        again = f"pip install --force-reinstall {_requirement(library)}"
        return f"The library {library} is broken ({text}); install it again: {again}"
    return f"The library {library} cannot be imported: {' '.join(str(error).split()) or text}"


def _library_being_imported(trace: TracebackType | None) -> str | None:
    """The innermost library whose module was being executed when the error was raised."""
    library = None
    for frame, _ in traceback.walk_tb(trace):
        root = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if frame.f_code.co_name == "<module>" and root not in ("locloc", "__main__", *sys.stdlib_module_names):
            library = root
    return library


def _requirement(library: str) -> str:
    """What to give to pip: `'locloc[cluster]'` for a library of an extra, else the library's distribution."""
    import importlib.metadata

    distribution = _DISTRIBUTIONS.get(library, library).replace("_", "-")
    try:
        requirements = importlib.metadata.requires("locloc") or []
    except importlib.metadata.PackageNotFoundError:
        return distribution
    for requirement in requirements:
        extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        if extra and re.match(rf"{re.escape(distribution)}\b(?!-)", requirement):
            return f"'locloc[{extra[1]}]'"
    return distribution
