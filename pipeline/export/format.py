"""What a format of `masks export` is: a class that is given the rows one after another."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from .images import ExportImages
from .options import Size
from .rows import ChosenRows
from .stream import ExportRow


@dataclass(frozen=True)
class ExportTarget:
    """What a format is made with.

    folder        new, and its own until it is complete
    segmentation  one of the format's `segmentations`
    about         what the export says of itself: version, size, pixels, ...
    open_files    closes what the format opens, after an error too
    """

    folder: Path
    chosen: ChosenRows
    names: list[str]
    images: ExportImages
    size: Size
    segmentation: str
    mask_px: int
    about: dict[str, Any]
    open_files: ExitStack

    @property
    def classes(self) -> tuple[str, ...]:
        return self.chosen.classes


class Format(Protocol):
    """Writes an export. A class that is listed in EXPORTERS.

    images, sizes, segmentations  what it can write, the default first; () where it has no such choice
    """

    images: ClassVar[tuple[str, ...]]
    sizes: ClassVar[tuple[str, ...]]
    segmentations: ClassVar[tuple[str, ...]]

    def __init__(self, target: ExportTarget) -> None: ...

    def write(self, row: ExportRow) -> None:
        """Called for each row, in order."""

    def close(self) -> None:
        """Called once all rows are written; not after an error."""


OnProgress = Callable[[int, int], None]
"""Called with the rows done and all rows."""


def no_progress(done: int, total: int) -> None:
    pass
