"""The images of an export: copied, linked or embedded, each checked to be the file that its mask was made from."""

from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from ..catalogs.paths import parse_location, resolve
from ..errors import ImageError, StoreError
from ..io.image_files import read_image_bytes
from ..store.reader import Version
from ..store.schema import input_digest
from .names import kept_suffix
from .stream import ExportRow

_MEND = "if the images were moved, name their folder with --root; --images none leaves them out"


class ExportImages:
    """The images of a version, by row."""

    def __init__(self, version: Version, mode: Literal["copy", "link", "none"], root: Path | str | None):
        """root: where the images are now; None: where they were."""
        self.version, self.mode = version.name, mode
        self.root = parse_location(root or version.provenance["catalog"]["root"])

    def read(self, row: ExportRow) -> bytes:
        """The bytes of an image's file. Raises StoreError where it is gone, or another file than at the build."""
        where = resolve(self.root, row.path)
        try:
            data = read_image_bytes(where)
        except ImageError as error:
            raise StoreError(f"The image {row.id} cannot be read: {where}: {error}; {_MEND}") from None
        if row.digest.any() and not np.array_equal(input_digest(data), row.digest):
            raise StoreError(f"{where} is another file than the one that the mask of {row.id} was made from; {_MEND}")
        return data

    def put(self, row: ExportRow, folder: Path, name: str | None = None) -> str | None:
        """Copies or links an image below `folder`, as `name` with the suffix of `kept_suffix`; returns both.

        name  None: the row's, without a second suffix if it has the image's own already

        None where no images are written.
        """
        if self.mode == "none":
            return None
        data = self.read(row) if self.mode == "copy" else b""
        own = PurePosixPath(row.file_name)
        in_full = name is None and own.suffix != "" and PurePosixPath(row.name).name == own.name
        name = (name or row.name) + ("" if in_full else kept_suffix(row.file_name, data))
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if self.mode == "copy":
            file.write_bytes(data)
            return name
        where = resolve(self.root, row.path)
        if not isinstance(where, Path):
            raise StoreError(f"The image {row.id} is no file of this machine ({where}); use --images copy, or none")
        if not where.is_file():
            raise StoreError(f"The image {row.id} is not there: {where}; {_MEND}")
        file.symlink_to(where.absolute())
        return name
