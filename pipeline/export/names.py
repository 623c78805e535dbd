"""Names of files in an export: the image's own path, so that masks and labels lie as their images do."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

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
    """Names of images, as `io.archives.member.file_names` has them > relative, without suffix, each only once.

    `a/cat.jpg` is `a/cat`; where `a/cat.png` is exported too, they are `a/cat.jpg` and `a/cat.png`. Absolute paths and
    URLs lose what is before their first folder.
    """
    relative = [_PROTOCOL.sub("", path).lstrip("/") for path in paths]
    names = [str(PurePosixPath(path).with_suffix("")) for path in relative]
    repeated = _repeated(names)
    names = [path if name in repeated else name for name, path in zip(names, relative, strict=True)]
    repeated = _repeated(names)
    return [f"{name}-{number}" if name in repeated else name for number, name in enumerate(names)]


def image_suffix(name: str, data: bytes = b"") -> str:
    """The suffix of an image's file, in lower case; `.jpg` of JPEGs. A name without one: by how `data` begins."""
    suffix = PurePosixPath(name).suffix.lower()
    if not suffix:
        suffix = next((known for known, begins in _BEGINNINGS.items() if data.startswith(begins)), ".jpg")
    return ".jpg" if suffix in (".jpeg", ".jpe", ".jfif") else suffix


def _repeated(names: list[str]) -> frozenset[str]:
    """Names that stand more than once, whatever the case of their letters: some file systems ignore it."""
    counts = Counter(map(str.casefold, names))
    return frozenset(name for name in names if counts[name.casefold()] > 1)
