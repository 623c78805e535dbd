"""Names of files in an export: the image's own path, so that masks and labels lie as their images do."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from ..io.unique_names import unique_names

_BEGINNINGS = {
    ".jpg": b"\xff\xd8",
    ".png": b"\x89PNG",
    ".webp": b"RIFF",
    ".gif": b"GIF8",
    ".bmp": b"BM",
    ".tif": b"II*\0",
}
_PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def export_names(paths: Sequence[str]) -> list[str]:
    """Names of images, as `io.archives.member.file_names` has them > relative, each only once: `io.unique_names`.

    Absolute paths and URLs lose what is before their first folder.
    """
    return unique_names([_PROTOCOL.sub("", path).lstrip("/") for path in paths])


def kept_suffix(name: str, data: bytes = b"") -> str:
    """The suffix of an image's file as it is written, but `.jpg` for the suffixes of JPEGs that few programs know."""
    suffix = PurePosixPath(name).suffix
    return image_suffix(name, data) if suffix.lower() in ("", ".jpe", ".jfif") else suffix


def image_suffix(name: str, data: bytes = b"") -> str:
    """The suffix of an image's file, in lower case; `.jpg` of JPEGs. A name without one: by how `data` begins."""
    suffix = PurePosixPath(name).suffix.lower()
    if not suffix:
        suffix = next((known for known, begins in _BEGINNINGS.items() if data.startswith(begins)), ".jpg")
    return ".jpg" if suffix in (".jpeg", ".jpe", ".jfif") else suffix
