"""Why a file that no decoder takes is not read: a format that is known by its first bytes, or none."""

from ..formats import installed

_RAW = "camera raw: only previews and sensor data; develop it to JPEG or TIFF first"
_KNOWN = (
    (0, b"FUJIFILMCCD-RAW", _RAW),
    (4, b"ftypcrx ", _RAW),  # Canon CR3
    (6, b"HEAPCCDR", _RAW),  # Canon CRW
    (0, b"IIRO", _RAW),  # Olympus ORF
    (0, b"IIRS", _RAW),
    (0, b"MMOR", _RAW),
    (0, b"IIU\0", _RAW),  # Panasonic RW2
    (0, b"FOVb", _RAW),  # Sigma X3F
    (0, b"\0MRM", _RAW),  # Minolta MRW
    (0, b"\xff\x0a", "JPEG XL is not read; convert it to PNG"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL is not read; convert it to PNG"),
    (0, b"v/1\x01", "OpenEXR is not read; convert it to TIFF or Radiance"),
    (0, b"II\xbc", "JPEG XR is not read; convert it to TIFF"),
    (0, b"version https://git-lfs.github.com/", "a pointer of Git LFS, not the image: run git lfs pull"),
    (0, b"8BPS\0\x02", "a Photoshop file of the large kind (PSB) is not read; save it as TIFF"),
)
_PAGES = (b"<!doctype html", b"<html")
_UNKNOWN = "not an image of a known format"
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")


def is_heif(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS


def reason_of(data: bytes) -> str:
    if is_heif(data):
        needs = "HEIF needs another decoder: pip install locloc[heif]"
        return "cannot be decoded: broken HEIF data" if installed("heif") else needs
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg_reason(data)
    if data.startswith(b"8BPS\0\x01") and data[23:24] in (b"\x10", b"\x20"):
        return f"a Photoshop file of {data[23]} bits a channel is not read; save it with 8 bits or as TIFF"
    for at, mark, reason in _KNOWN:
        if data[at : at + len(mark)] == mark:
            return reason
    if data[:512].lstrip().lower().startswith(_PAGES):
        return "a web page, not an image: the download failed"
    if not data.strip(b"\0"):
        return "only zero bytes: the copy or download was not finished"
    return _UNKNOWN


def _jpeg_reason(data: bytes) -> str:
    """Of a file that begins as a JPEG: its kind or its bits, from the frame header."""
    at = 2
    while at + 5 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xF7:
            return "JPEG-LS is not read; convert it to PNG"
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and data[at + 4] != 8:
            return f"a JPEG of {data[at + 4]} bits a sample is not read; convert it to PNG or TIFF"
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return _UNKNOWN
