"""Small versions with splits; images that show their masks."""

import io
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from locloc.pipeline.catalogs.catalog import CatalogRows, build_catalog
from locloc.pipeline.catalogs.split_words import SPLITS
from locloc.pipeline.recipe import Recipe
from locloc.pipeline.status import DONE, Status
from locloc.pipeline.store import Version, open_version
from locloc.pipeline.store.schema import STATS, content_crc, input_digest, pack_masks, write_block
from locloc.pipeline.store.writer import StoreWriter
from locloc.trainer.data.datasets import MaskPairs
from locloc.trainer.data.mask_cache import MaskCache
from locloc.trainer.data.version_images import VersionImages
from locloc.trainer.recipe import GeneratorSettings

# Of versions with splits: images of 24 x 16.
WIDTH, HEIGHT, MASK_PX = 24, 16, 16

# Of images that show their masks.
SIDE, CROP, COUNT = 64, 48, 12
WHITE, GREY = 255, 100
EMPTY_ROW, BROKEN_ROW = 10, 11


class Row(NamedTuple):
    """A row of a version; `empty`: its mask is."""

    split: str = ""
    label: int = 0
    boxes: tuple[tuple[int, ...], ...] = ()
    status: Status = Status.OK
    empty: bool = False


def noise_png(seed: int) -> bytes:
    out = io.BytesIO()
    rgb = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(out, "PNG")
    return out.getvalue()


def publish_rows(
    folder: Path, rows: list[Row], kind: str = "test", classes: tuple[str, ...] = (), catalog_sha256: str = ""
) -> Version:
    """A version of images 000.png, 001.png, ... in FOLDER/images, with masks of one rectangle each."""
    catalog_rows, images = CatalogRows(), folder / "images"
    images.mkdir(parents=True)
    for number, row in enumerate(rows):
        (images / f"{number:03}.png").write_bytes(noise_png(number))
        catalog_rows.add(f"{number:03}.png", f"{number:03}.png", row.label, SPLITS.index(row.split), row.boxes)
    catalog = build_catalog(kind, images, catalog_rows, classes, where=lambda row, column: str(row), looked_for="")
    status = np.array([row.status for row in rows], np.uint8)
    masks = np.zeros((len(rows), MASK_PX, MASK_PX), bool)
    for number, row in enumerate(rows):
        if row.status in DONE and not row.empty:
            masks[number, number % 8 : 12, 2 : 5 + number % 11] = True
    packed, attention = pack_masks(masks), np.ones((len(rows), 1, 2, 2), np.float16)
    columns = {
        "box": np.arange(4 * len(rows), dtype=np.float32).reshape(-1, 4),
        "stats": np.tile(masks.mean((1, 2))[:, None], (1, len(STATS))).astype(np.float32),
        "status": status,
        "size": np.tile(np.array((WIDTH, HEIGHT), np.int32), (len(rows), 1)),
        "content_crc": content_crc(packed, attention),
        "input_digest": np.stack([input_digest(noise_png(number)) for number in range(len(rows))]),
    }
    metadata = {
        "build_id": uuid.uuid4().hex,
        "fingerprint": "ab" * 32,
        "recipe_name": "test",
        "recipe": {"images": {"fit": "centre_crop"}, "mask_px": MASK_PX},
        "backbone": {"name": "none", "weights": "none", "sha256": "0" * 64},
        "catalog": {
            "kind": kind, "root": str(images), "sha256": catalog_sha256 or catalog.sha256, "rows": len(catalog),
            "classes": list(classes),
        },
        "parent": None,
        "created_at": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    with StoreWriter(folder / "masks.store") as writer:
        writer.begin(metadata, catalog, (1, 2, 2), MASK_PX)
        for block, start in enumerate(range(0, len(rows), 64)):
            part, fork = slice(start, start + 64), writer.fork
            write_block(fork.store, start, packed[part], attention[part])
            writer.merge(fork, block, {name: values[part] for name, values in columns.items()})
        writer.verify = writer.checkpoint  # publishes wrong content too
        return open_version(f"{folder / 'masks.store'}@{writer.publish()}")


@pytest.fixture(scope="session")
def png() -> Callable[[int], bytes]:
    """`png(number)`: the file of that row's image, `NUMBER.png`."""
    return noise_png


@pytest.fixture
def write_rows(tmp_path) -> Callable[..., Version]:
    """`write_rows(rows, **settings)`: publishes a version of these rows; each is a dict of fields of `Row`."""

    def write(rows: list[dict], **settings) -> Version:
        return publish_rows(tmp_path, [Row(**row) for row in rows], **settings)

    return write


@pytest.fixture(scope="session")
def unsplit(tmp_path_factory) -> Version:
    """Classes 0 to 6 of 1, 2, 3, 5, 10, 20 and 40 images, shuffled, and two images without a class; no split."""
    labels = np.repeat([0, 1, 2, 3, 4, 5, 6, -1], [1, 2, 3, 5, 10, 20, 40, 2])
    labels = np.random.default_rng(0).permutation(labels)
    return publish_rows(tmp_path_factory.mktemp("unsplit"), [Row(label=label) for label in labels.tolist()])


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Version:
    """Two rows of each split."""
    rows = [Row(split, n % 2) for n in range(2) for split in ("train", "val", "test")]
    return publish_rows(tmp_path_factory.mktemp("small"), rows, classes=("a", "b"))


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> tuple[VersionImages, MaskCache, np.ndarray]:
    """12 images of 96 x 64, white inside of the mask and grey outside; masks cover the central square of 64 x 64.

    The mask of row 10 is empty, the file of row 11 is no image. Returns images, cache and masks.
    """
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(1)
    masks = np.kron(rng.random((COUNT, 8, 8)) < 0.4, np.ones((8, 8), bool))
    masks[EMPTY_ROW] = False
    ids = [f"{n:02}" for n in range(COUNT)]
    for image_id, mask in zip(ids, masks, strict=True):
        image = np.full((SIDE, 96, 3), GREY, np.uint8)
        image[:, 16:80][mask] = WHITE
        Image.fromarray(image).save(folder / f"{image_id}.png")
    (folder / f"{BROKEN_ROW}.png").write_bytes(b"no image")
    np.save(folder / "masks.npy", pack_masks(masks))
    recipe = Recipe.model_validate({"images": {"fit": "centre_crop"}, "mask_px": SIDE})
    images = VersionImages(folder, pa.array(ids), pa.array([f"{image_id}.png" for image_id in ids]), None, recipe)
    return images, MaskCache(folder / "masks.npy"), masks


@pytest.fixture
def pairs(data) -> MaskPairs:
    """Crops of 48 x 48 of the central squares, with their masks."""
    return MaskPairs(*data[:2], GeneratorSettings(resize_px=SIDE), CROP)
