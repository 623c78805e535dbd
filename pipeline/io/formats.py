"""Which image formats are decoded, and by their suffixes: always, or where an extra is installed."""

from importlib.util import find_spec

# Every raster format that Pillow decodes by itself. EPS and WMF need other programs; MPEG, HDF5, GRIB and BUFR are
# only recognised, never decoded. MPO is opened as JPEG. Formats are tried in this order: TGA has no magic number and
# would match some icons, so it comes last.
# fmt: off
FORMATS = [
    "JPEG", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM", "SUN", "ICO", "ICNS", "CUR", "PCX",
    "DCX", "DDS", "PSD", "SGI", "QOI", "XBM", "XPM", "MSP", "IM", "FLI", "PCD", "BLP", "FTEX", "GBR", "FITS", "PIXAR",
    "TGA",
]

# Decoded on every machine, whatever the versions of the decoders.
SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp",
    ".avif", ".avifs", ".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc", ".pbm", ".pgm", ".ppm", ".pnm", ".pxm", ".pam",
    ".pfm", ".ras", ".sr", ".hdr", ".pic", ".tga", ".icb", ".vda", ".vst", ".ico", ".icns", ".cur", ".pcx", ".dcx",
    ".dds", ".psd", ".sgi", ".rgb", ".rgba", ".bw", ".qoi", ".xbm", ".xpm", ".msp", ".im", ".fli", ".flc", ".pcd",
    ".blp", ".ftu", ".ftc", ".gbr", ".pxr", ".fit", ".fits",
})
# fmt: on

# Formats of an extra, `pip install locloc[EXTRA]`: suffix > extra. JPEG XL is none of them: its plug-in for Pillow
# decodes all pixels before the size can be checked.
EXTRA_SUFFIXES = dict.fromkeys([".heic", ".heif", ".hif", ".heics", ".heifs"], "heif")

_MODULES = {"heif": "pillow_heif"}  # the module that each extra installs


def installed(extra: str) -> bool:
    """Whether the decoder of an extra can be imported."""
    return find_spec(_MODULES[extra]) is not None


def decodable_suffixes() -> frozenset[str]:
    """Lower-case suffixes, with their dot, of all formats that can be decoded on this machine now."""
    return SUFFIXES | {suffix for suffix, extra in EXTRA_SUFFIXES.items() if installed(extra)}


def missing_extras() -> dict[str, str]:
    """Suffix > extra to install, for each format that could be decoded but whose extra is not installed."""
    return {suffix: extra for suffix, extra in EXTRA_SUFFIXES.items() if not installed(extra)}
