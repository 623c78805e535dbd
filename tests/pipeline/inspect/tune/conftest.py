"""A version of made images whose objects their maps show, with a recipe that is bad for them, and true masks."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.masks.pseudo_mask import make_mask
from locloc.pipeline.recipe import Recipe
from locloc.pipeline.store import Version

from ....conftest import SIZE, Content, write_version

BAD = {
    "mask_px": 32,
    "backbone": {"maps": "attention+contrast"},
    "saliency": {"heads": "mean", "background_below": 0.6, "threshold": 0.8, "foreground_from": 0.95},
    "refine": {"engine": "threshold"},
}
IMAGES = 24  # and as many of the split train
TRAIN, VAL = 1, 2


def make_version(folder: Path, maps: str = "attention+contrast", images: int = 2 * IMAGES) -> Version:
    """`images` images, every other one of val, and their true masks in the folder `truth`."""
    rng = np.random.default_rng(5)
    width, height = SIZE
    (folder / "truth").mkdir(parents=True)
    content = Content.made([f"{n:02}.png" for n in range(images)])
    content.status[:] = 1
    recipe = Recipe.model_validate(BAD | {"backbone": {"maps": maps}})
    content.recipe = recipe.model_dump(mode="json")
    content.splits = [TRAIN if n % 2 else VAL for n in range(images)]
    content.files, kept, masks = [], [], []
    for n in range(images):
        x0, y0 = rng.integers(4, 20, 2)
        x1, y1 = x0 + rng.integers(16, 40), y0 + rng.integers(12, 24)
        truth = np.zeros((height, width), bool)
        truth[y0:y1, x0:x1] = True
        rgb = np.where(truth[..., None], (190, 90, 60), (80, 110, 90)) + rng.integers(-40, 40, (height, width, 3))
        content.true_boxes.append([[float(x0), float(y0), float(min(x1, width)), float(min(y1, height))]])
        Image.fromarray(truth).save(folder / "truth" / f"{n:02}.png")
        content.files.append(_png(rgb.astype(np.uint8)))
        share = np.asarray(Image.fromarray(truth).convert("L").resize((8, 6), Image.Resampling.BOX)) / 255
        head = 0.2 + share + rng.uniform(0, 0.2, share.shape)
        head.flat[rng.integers(head.size)] = 4.0  # one bright token, from which shares of the range suffer
        every = [head, head[::-1], 2 * share - 1 + rng.normal(0, 0.2, share.shape)]
        attention = np.stack(every[: 2 + (maps != "attention")]).astype(np.float16)
        kept.append(attention)
        pixels = np.asarray(Image.fromarray(rgb.astype(np.uint8)).resize((32, 32)))
        masks.append(make_mask(attention, pixels, recipe, content.ids[n]).mask)  # an engine that reads no pixels
    content.attention, content.masks = np.stack(kept), np.stack(masks)
    return write_version(folder / "m.store", content, folder / "images")


def _png(rgb: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="package")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    make_version(folder)
    return folder
