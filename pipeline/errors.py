"""Every error that locloc raises on purpose.

    LocLocError               one line: what is wrong, where, and the command or setting that mends it
    ├── CatalogError          a list of images that cannot be read, or that contradicts itself
    ├── RecipeError           a setting that does not parse, or does not fit the backbone
    ├── BackboneError         a model or its weights that cannot be had
    ├── ImageError            one image that cannot be decoded: a status row in the store, never the end of a build
    ├── UnreachableError      images cannot be reached just now (network, credentials): the block failed, not its rows
    ├── StoreError            a store or version that cannot be read or written
    │   └── StoreLockedError  another process is writing to the store
    ├── BuildError            a build that had to stop; what it had checkpointed is kept
    ├── TruthError            a folder of true masks, or one of them, that cannot be what it should
    ├── TrainError            a training run that cannot begin, or had to stop; its last state is kept
    ├── BenchError            a benchmark that cannot be run here as asked
    └── PredictError          predictions that cannot be made of what was given, or not be written

Anything else that escapes is a bug, and shows its traceback.
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
    """`"; did you mean 'cub'?"` where a known name is close, else the list of them, for the end of an error line."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


def os_error_reason(error: OSError) -> str:
    """`"no space left on device"`: the text of the error's number, for the end of an error line."""
    return os.strerror(error.errno).lower() if error.errno else str(error) or type(error).__name__
