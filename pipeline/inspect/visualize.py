"""Draws rows of a version: image, attention, trimap, mask and box side by side."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..catalogs.paths import parse_location, resolve
from ..errors import ImageError, StoreError
from ..io.images import decode_reduced, read_image_bytes
from ..masks.pseudo_mask import make_mask, working_geometry
from ..masks.saliency import PROBABLE_BACKGROUND, PROBABLE_FOREGROUND, SURE_BACKGROUND, SURE_FOREGROUND
from ..recipe import Recipe
from ..store.reader import Version

PANEL_PX = 256
_GAP_PX, _TITLE_PX = 8, 26
_FOREGROUND, _BOX = (255, 96, 32), (40, 220, 90)
_TRIMAP_COLOURS = {
    SURE_BACKGROUND: (24, 24, 32),
    PROBABLE_BACKGROUND: (84, 92, 128),
    PROBABLE_FOREGROUND: (244, 180, 100),
    SURE_FOREGROUND: (255, 255, 240),
}


def view_rows(version: Version, image_ids: list[str], root: Path | str | None = None) -> np.ndarray:
    """One row of panels for each image, `(h, w, 3) uint8`."""
    return np.concatenate([view_row(version, image_id, root) for image_id in image_ids])


def view_row(version: Version, image_id: str, root: Path | str | None = None) -> np.ndarray:
    """Five panels, `(h, w, 3) uint8`.

    root  folder or URL of the images, if they were moved after the build

    Mask and attention are read from the store; saliency and trimap are computed from the attention. Raises StoreError
    for an unknown id or a row without a mask, ImageError if the image cannot be read.
    """
    row = version.row(image_id)
    metadata = version.provenance
    entry = version.table.slice(row, 1).to_pylist()[0]
    if entry["status"] not in ("ok", "fallback"):
        raise StoreError(f"{image_id} has no mask in {version.name}: {entry['status']} ({entry['error']})")
    recipe = Recipe.model_validate(metadata["recipe"])
    file = resolve(parse_location(root or metadata["catalog"]["root"]), entry["path"])
    try:
        image = decode_reduced(read_image_bytes(file), recipe.covers_px, recipe.images.max_pixels)
    except ImageError as error:
        raise ImageError(f"{file}: {error}; if the images were moved, give their folder with --root") from None
    geometry = working_geometry(np.array(image.size_px), recipe, recipe.mask_px)
    square = geometry.image(image.rgb, shown=image.window)
    made = make_mask(version.read_attention([row])[0], square, recipe, image_id)
    mask = version.read_masks([row])[0]
    box = geometry.boxes(np.array([entry[name] for name in ("x0", "y0", "x1", "y1")]))
    trimap = np.array([_TRIMAP_COLOURS[code] for code in range(4)], np.uint8)[made.trimap]
    heat = cv2.applyColorMap((made.saliency * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    share = mask.mean()
    return _side_by_side(
        [
            ("image", square),
            ("CLS attention", heat),
            ("trimap", trimap),
            (f"mask: {share:.0%} of the image", _overlay(square, mask)),
            ("box", _draw_box(square, box)),
        ]
    )


def save_view(image: np.ndarray, file: Path) -> None:
    """Writes a PNG, or the format of the file's suffix. Raises StoreError if it cannot be written."""
    try:
        Image.fromarray(image).save(file)
    except (OSError, ValueError) as error:
        raise StoreError(f"{file} cannot be written: {error}; name a .png in an existing folder with --out") from None


def _overlay(square: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The object in colour with its outline, the background in dark grey."""
    grey = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2) // 3
    shown = np.where(mask[..., None], square, grey)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.ascontiguousarray(shown), contours, -1, _FOREGROUND, 1)


def _draw_box(square: np.ndarray, box: np.ndarray) -> np.ndarray:
    drawing = Image.fromarray(square)
    if box.any():
        ImageDraw.Draw(drawing).rectangle([*box[:2], *(box[2:] - 1)], outline=_BOX, width=3)
    return np.array(drawing)


def _side_by_side(panels: list[tuple[str, np.ndarray]]) -> np.ndarray:
    width = len(panels) * (PANEL_PX + _GAP_PX) + _GAP_PX
    sheet = Image.new("RGB", (width, PANEL_PX + _TITLE_PX + _GAP_PX), (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for number, (title, panel) in enumerate(panels):
        left = _GAP_PX + number * (PANEL_PX + _GAP_PX)
        draw.text((left, 4), title, fill=(40, 40, 40), font=font)
        sheet.paste(Image.fromarray(panel).resize((PANEL_PX, PANEL_PX), Image.Resampling.BICUBIC), (left, _TITLE_PX))
    return np.array(sheet)
