"""The formats of `locloc masks view`, checked before anything slow is imported."""

from pathlib import Path

from ...errors import StoreError
from ...io.outputs import check_output_file

FORMATS = ("png", "pdf", "svg", "jpg", "jpeg", "tif", "tiff", "webp")
VECTOR = ("pdf", "svg")


def check_view_file(file: Path) -> None:
    """Raises StoreError for a suffix that is not in FORMATS, and for a file that cannot be written."""
    if format_of(file) not in FORMATS:
        raise StoreError(f"--out {file}: the suffix is the format: {', '.join(f'.{name}' for name in FORMATS)}")
    check_output_file(file, "--out", StoreError)


def format_of(file: Path) -> str:
    """The suffix in lower case, without its dot."""
    return file.suffix.lower().removeprefix(".")
