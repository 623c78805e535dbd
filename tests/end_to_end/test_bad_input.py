"""A folder as found in the wild: good images between everything that can be wrong with a file."""

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.store import open_version

from .conftest import BUILD, image

GOOD, BAD = ("ok", "fallback"), {}


def bad(status: str, reason: str) -> Callable:
    def register(make: Callable[[Path], None]) -> Callable:
        BAD[make.__name__] = (make, status, reason)
        return make

    return register


def jpeg(file: Path, **options) -> Path:
    Image.fromarray(image(1)).save(file, **options)
    return file


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@bad("undecodable", "empty file")
def empty(folder):
    (folder / "empty.jpg").touch()


@bad("undecodable", "not an image")
def text(folder):
    (folder / "text.jpg").write_text("<html>404 not found</html>")


@bad("undecodable", "truncated")
def truncated(folder):
    data = jpeg(folder / "truncated.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(data[: len(data) // 2])


@bad("undecodable", "cannot be decoded")
def corrupt_chunk(folder):
    Image.fromarray(image(2)).save(folder / "corrupt_chunk.png")
    data = bytearray((folder / "corrupt_chunk.png").read_bytes())
    data[data.index(b"IDAT") + 40] ^= 0xFF
    (folder / "corrupt_chunk.png").write_bytes(data)


@bad("undecodable", "20000 x 20000 is more than")
def huge_header(folder):
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    (folder / "huge_header.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IEND", b"")
    )


@bad("undecodable", "not an image")
def wrong_suffix(folder):
    (folder / "wrong_suffix.png").write_bytes(b"PK\x03\x04" + bytes(200))


@bad("undecodable", "Radiance")
def broken_radiance(folder):
    (folder / "broken_radiance.hdr").write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 9 +X x\n")


@bad("missing", "directory")
def directory(folder):
    (folder / "directory.jpg").mkdir()


@bad("missing", "broken link")
def broken_link(folder):
    (folder / "broken_link.jpg").symlink_to("nowhere.jpg")


@bad("missing", "symbolic links")
def link_to_itself(folder):
    (folder / "link_to_itself.jpg").symlink_to("link_to_itself.jpg")


@bad("missing", "not a regular file")
def pipe(folder):
    os.mkfifo(folder / "pipe.jpg")


def awkward_but_good(folder: Path) -> None:
    """Thirteen files that look odd and are images all the same."""
    rgb = Image.fromarray(image(3))
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    rgb.convert("L").save(folder / "grey.png")
    rgb.convert("P").save(folder / "palette.gif")
    rgb.convert("RGBA").save(folder / "alpha.webp")
    Image.fromarray(image(3).astype(np.uint16)[..., 0] * 257).save(folder / "sixteen_bit.png")
    rgb.resize((1, 1)).save(folder / "one_pixel.png")
    rgb.resize((1, 5000)).save(folder / "thin.png")
    rgb.save(folder / "animated.gif", save_all=True, append_images=[rgb.rotate(90), rgb.rotate(180)], duration=50)
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(folder / "rotated.jpg", exif=exif)
    rgb.save(folder / "größe 日本.jpg")
    rgb.save(folder / "new\nline.jpg")
    with open(os.fsencode(folder) + b"/latin\xe9.jpg", "wb") as file:
        rgb.save(file, "JPEG")
    Image.new("RGB", (80, 60), (0, 90, 200)).save(folder / "uniform.png")


@pytest.fixture(scope="module")
def wild(tmp_path_factory, make_folder) -> Path:
    folder = tmp_path_factory.mktemp("wild")
    make_folder(folder, 20)
    for make, _, _ in BAD.values():
        make(folder)
    awkward_but_good(folder)
    jpeg(folder / "secret.jpg").chmod(0)
    (folder / "notes.txt").write_text("not listed")
    (folder / "loop").symlink_to(folder)
    return folder


@pytest.fixture(scope="module")
def store(wild, tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("wild_store") / "masks.store"


def test_it_finishes_with_a_status_and_a_reason_for_each(wild, store, locloc):
    said = locloc(*BUILD, wild, "--store", store, "--json")
    assert said.code == 0, said.stderr
    table = {row["id"]: row for row in open_version(f"{store}@v1").table.to_pylist()}
    unreadable = 0 if os.geteuid() == 0 else 1
    assert len(table) == 20 + len(BAD) + 13 + 1

    for make, status, reason in BAD.values():
        (row,) = (row for name, row in table.items() if name.startswith(f"{make.__name__}."))
        assert (row["status"], reason in row["error"]) == (status, True), row
        assert (row["x0"], row["y0"], row["x1"], row["y1"]) == (0, 0, 0, 0)
    known = {f"{name}." for name in BAD} | {"secret."}
    others = [row for name, row in table.items() if not name.startswith(tuple(known))]
    assert len(others) == 33
    assert all(row["status"] in GOOD for row in others), [row for row in others if row["status"] not in GOOD]
    assert all((row["error"] is None) == (row["status"] == "ok") for row in others)
    assert table["secret.jpg"]["status"] in (["missing"] if unreadable else GOOD)  # root reads everything

    assert (table["rotated.jpg"]["width"], table["rotated.jpg"]["height"]) == (90, 120)
    assert (table["thin.png"]["width"], table["thin.png"]["height"]) == (1, 5000)
    assert {"größe 日本.jpg", "new\nline.jpg", "latin\\xe9.jpg"} <= table.keys()
    summary = json.loads(said.stdout)
    assert summary["counts"]["undecodable"] == 7
    assert summary["counts"]["missing"] == 4 + unreadable
    assert summary["coverage"] == pytest.approx(1 - (11 + unreadable) / len(table))


@pytest.mark.parametrize(("least", "code"), [("0.5", 0), ("0.99", 3)])
def test_the_exit_code_follows_min_coverage(least, code, wild, store, locloc):
    said = locloc(*BUILD, wild, "--store", store, "--min-coverage", least)
    assert said.code == code
    assert ("--min-coverage is 99.0%" in said.stderr) == (code == 3)


def test_reasons_are_shown_one_a_line(store, locloc):
    shown = locloc("masks", "show", f"{store}@v1").stdout
    assert "rows with a reason" in shown
    (line,) = (line for line in shown.splitlines() if "huge_header.png" in line)
    assert "20000 x 20000 is more than 178,956,970 pixels (setting images.max_pixels)" in line


def test_a_build_without_a_single_image_fails(tmp_path, locloc):
    folder = tmp_path / "images"
    folder.mkdir()
    empty(folder)
    said = locloc(*BUILD, folder, "--store", tmp_path / "s")
    assert said.code == 3
    assert open_version(f"{tmp_path}/s@v1").provenance["counts"]["undecodable"] == 1
