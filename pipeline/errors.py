"""Every error that locloc raises on purpose.

    LocLocError               one line: what is wrong, where, and the command or setting that fixes it
    ├── CatalogError          a list of images that cannot be read, or that contradicts itself
    ├── RecipeError           a setting that does not parse, or does not fit the backbone
    ├── BackboneError         a model or its weights that cannot be loaded
    ├── ImageError            one image that cannot be decoded: becomes a status row in the store, never ends a build
    ├── UnreachableError      images cannot be reached now (network, credentials): the block failed, not its rows
    ├── StoreError            a store or version that cannot be read or written
    │   └── StoreLockedError  another process is writing to the store; or it took over a run from this one
    ├── BuildError            a build that had to stop; its checkpoints are kept
    ├── TruthError            a folder of ground-truth masks, or one of its files, that cannot be used
    ├── TrainError            a training run that cannot start, or had to stop; its last checkpoint is kept
    ├── BenchError            a benchmark that cannot run on this machine or with these options
    └── PredictError          predictions that cannot be made from the inputs, or cannot be written

OSError, MemoryError and libraries that cannot be imported end a command in one line too (`io/exit_codes.py`). Anything
else that escapes is a bug, and shows its traceback.
"""

import difflib
import os
from collections.abc import Iterable


class LocLocError(Exception):
    """Root of the tree; the command line prints the message in one line and exits 1."""


class CatalogError(LocLocError):
    pass


class RecipeError(LocLocError):
    pass


class BackboneError(LocLocError):
    pass


class ImageError(LocLocError):
    pass


class UnreachableError(LocLocError):
    pass


class StoreError(LocLocError):
    pass


class StoreLockedError(StoreError):
    pass


class BuildError(LocLocError):
    pass


class TruthError(LocLocError):
    pass


class TrainError(LocLocError):
    pass


class BenchError(LocLocError):
    pass


class PredictError(LocLocError):
    pass


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error line: `"; did you mean 'cub'?"` if a known name is close, else the list of known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


def os_error_reason(error: OSError) -> str:
    """`"no space left on device"`: the text of the error's number, for the end of an error line."""
    if error.errno is None:
        return str(error) or type(error).__name__
    # A resolver's errors have numbers of their own; errors that Python raises itself have their own text.
    text = error.strerror if isinstance(error.strerror, str) else os.strerror(error.errno)
    return text[:1].lower() + text[1:]


def check_known(kind: type[LocLocError], what: str, name: object, known: Iterable[str]) -> None:
    """Raises `kind` with `"No WHAT 'name'; did you mean 'cub'?"` unless `name` is one of the known names."""
    names = list(known)
    if name not in names:
        raise kind(f"No {what} {name!r}{did_you_mean(str(name), names)}")
