"""EXIF orientation: which one an image has, and how it becomes upright."""

import io

from PIL import ExifTags, Image

from . import png

# The transposition that makes each EXIF orientation upright; 1 is upright already.
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(image: Image.Image, data: bytes | None = None) -> int:
    """EXIF orientation (1 to 8) of an image that need not be loaded; 1 where there is none, or a broken EXIF block.

    data: the file's bytes, if it is one. A PNG may have its EXIF after the pixels.
    """
    try:
        if data is not None and image.format == "PNG":
            with Image.open(io.BytesIO(png.metadata_only(data)), formats=["PNG"]) as metadata:
                return _orientation(metadata)
        return _orientation(image)
    except MemoryError:
        raise
    except Exception:  # a broken EXIF block says nothing about the pixels
        return 1


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as stored, of an image that is not loaded yet. Pillow gives a TIFF's size upright."""
    tags = getattr(image, "tag_v2", None)
    return image.size if tags is None else (int(tags[256]), int(tags[257]))


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """A loaded image, turned by its orientation.

    ImageOps.exif_transpose also rewrites the EXIF block, and fails where any other tag in it is broken.
    """
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image


def _orientation(image: Image.Image) -> int:
    # A PNG's own getexif decodes its pixels.
    value = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    return int(value) if value in _TRANSPOSE else 1
