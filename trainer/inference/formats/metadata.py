"""The protocol of output formats, and the metadata of a run that they write."""

import errno
import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ....pipeline.errors import PredictError, os_error_reason
from ....pipeline.io.atomic import write_atomic
from ....pipeline.io.unique_names import unique_names
from ...models.localizer import Localizer
from ..predict import Prediction


class Format(Protocol):
    """Created with a RunMetadata. Writes its own files below `metadata.out`."""

    def write(self, number: int, prediction: Prediction, canvas: np.ndarray | None) -> None:
        """Called for each image that could be read, in any thread and any order. canvas: as of `canvas_of`."""

    def close(self) -> None:
        """Called once, after all images."""


@dataclass(frozen=True)
class RunMetadata:
    out: Path
    run: str
    localizer: Localizer
    tau: float
    names: list[str]  # of all images, by number
    failed: list[dict[str, str]] = field(default_factory=list)  # {"file", "reason"}, complete when formats are closed
    clean: float = 0.0  # share of the object: smaller holes were filled and smaller parts dropped

    def file(self, folder: str, number: int, suffix: str) -> Path:
        """OUT/folder/NAME.suffix, whose folder is created; `a.jpg.png` if there is an `a.png` among the images too."""
        target = self.out / folder / f"{self._file_names[number]}{suffix}"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(target, error) from None
        return target

    @cached_property
    def _file_names(self) -> list[str]:
        return unique_names(self.names)

    def header(self) -> dict[str, Any]:
        """The head of JSON files: the run, its settings, and the images that failed."""
        header = next(iter(self.localizer.headers.values()))
        return {
            "run": self.run,
            "models": self.localizer.kind,
            "masks": header.get("version", header.get("trained_on")),  # a run of the hub has the name alone
            "backbone": self.localizer.backbone.name,
            "tau": self.tau,
            "clean": self.clean,
            "failed": self.failed,
        }


def write_json(file: Path, content: Any) -> None:
    """Writes JSON atomically."""
    try:
        write_atomic(file, json.dumps(content, ensure_ascii=False, allow_nan=False))
    except OSError as error:
        raise cannot_write(file, error) from None


class NameTooLong(PredictError):
    """One image's name does not fit the file system."""


def cannot_write(file: Path, error: OSError) -> PredictError:
    if error.errno == errno.ENAMETOOLONG:
        return NameTooLong(f"its file {file.name} cannot be written: {len(os.fsencode(file.name))} bytes are too long")
    return PredictError(f"{file} cannot be written: {os_error_reason(error)}; name another folder with --out")
