"""WebDataset's shards: OUT/SPLIT-000000.tar, a sample of files with one key for each image.

    KEY.jpg       the image as it is, with its own suffix; not with --images none
    KEY.mask.png  the mask, white on black
    KEY.cls       the number of its class
    KEY.json      id, path, class, split, box and size in pixels of the mask, quality

Keys are numbers: a key ends at its first dot, and ids have dots. Images without split are in shards `train`.
"""

import io
import json
import tarfile
from contextlib import ExitStack
from typing import ClassVar

from .format import ExportTarget
from .names import image_suffix
from .png import png_bytes
from .stream import ExportRow

SHARD_ROWS, SHARD_BYTES = 10_000, 512 << 20


class WebDataset:
    images: ClassVar[tuple[str, ...]] = ("copy", "none")
    sizes: ClassVar[tuple[str, ...]] = ("original", "mask")
    segmentations: ClassVar[tuple[str, ...]] = ()

    def __init__(self, target: ExportTarget) -> None:
        self.target = target
        self._shards: dict[str, _Shards] = {}

    def write(self, row: ExportRow) -> None:
        split = row.split or "train"
        if split not in self._shards:
            self._shards[split] = _Shards(str(self.target.folder / split), self.target.open_files)
        about = {
            "id": row.id,
            "path": row.file_name,
            "label": row.class_number,
            "class": self.target.classes[row.class_number],
            "split": row.split,
            "box": row.box.tolist(),
            "size": list(row.frame_px),
            "quality": row.quality,
        }
        files = {
            ".mask.png": png_bytes(row.mask),
            ".cls": str(row.class_number).encode(),
            ".json": json.dumps(about).encode(),
        }
        if self.target.images.mode == "copy":
            data = self.target.images.read(row)
            files = {image_suffix(row.file_name, data): data} | files
        self._shards[split].add(f"{row.number:09d}", files)

    def close(self) -> None:
        for shards in self._shards.values():
            shards.close()


class _Shards:
    """Tar files of limited size."""

    def __init__(self, stem: str, open_files: ExitStack) -> None:
        self._stem, self._count, self._open_files = stem, 0, open_files
        self._tar: tarfile.TarFile | None = None
        self._rows = self._bytes = 0

    def add(self, key: str, files: dict[str, bytes]) -> None:
        if self._tar is None or self._rows >= SHARD_ROWS or self._bytes >= SHARD_BYTES:
            self.close()
            file = f"{self._stem}-{self._count:06d}.tar"
            self._tar = self._open_files.enter_context(tarfile.TarFile(file, "w", format=tarfile.USTAR_FORMAT))
            self._count += 1
            self._rows = self._bytes = 0
        for suffix, data in files.items():
            member = tarfile.TarInfo(key + suffix)
            member.size, member.mode = len(data), 0o644
            self._tar.addfile(member, io.BytesIO(data))
            self._bytes += len(data)
        self._tar.getmembers().clear()  # it remembers every member, to no use when writing
        self._rows += 1

    def close(self) -> None:
        if self._tar is not None:
            self._tar.close()
