"""How a version shows itself in a notebook: counts by status and a row of thumbnails."""

import base64
import io

import cv2
import numpy as np
from PIL import Image

from ..catalogs.paths import resolve
from ..errors import LocLocError
from ..io.html import render_html
from ..io.images import decode_reduced, read_image_bytes
from ..masks.pseudo_mask import working_geometry
from ..recipe import Recipe
from ..status import DONE, Status
from ..store.reader import Version

THUMBNAILS = 8
SIDE_PX = 96
JPEG_QUALITY = 85

_OUTLINE = (255, 96, 32)


def version_html(version: Version) -> str:
    """HTML without scripts and without anything from elsewhere. Images that cannot be read are shown as masks alone."""
    metadata = version.provenance
    counts = {status.label: int((version.status == status).sum()) for status in Status}
    done = np.flatnonzero(np.isin(version.status, DONE))
    shown = np.unique(done[np.linspace(0, len(done) - 1, min(len(done), THUMBNAILS)).astype(int)]).tolist()
    return render_html(
        __package__,
        "version.html.j2",
        name=version.name,
        done=len(done),
        rows=len(version),
        counts=", ".join(f"{rows} {name}" for name, rows in counts.items() if rows),
        recipe=metadata["recipe_name"],
        backbone=metadata["backbone"]["name"],
        published=metadata["published_at"][:16].replace("T", " "),
        side_px=SIDE_PX,
        thumbnails=[{"jpeg": _thumbnail(version, row), "title": version.ids[row]} for row in shown],
    )


def _thumbnail(version: Version, row: int) -> str:
    """The image with its mask's outline, the rest dimmed; base64 of a JPEG."""
    mask = version.read_masks([row])[0]
    recipe = Recipe.model_validate(version.provenance["recipe"])
    catalog = version.catalog
    try:
        data = read_image_bytes(resolve(catalog.root, catalog.slice(row, row + 1)[1][0]))
        image = decode_reduced(data, recipe.covers_px(), recipe.images.max_pixels)
        geometry = working_geometry(np.array(image.size_px), recipe, recipe.mask_px)
        rgb = geometry.image(image.rgb, "bilinear", image.window)
    except LocLocError:
        rgb = np.full((*mask.shape, 3), 160, np.uint8)
    small = cv2.resize(np.where(mask[..., None], rgb, rgb // 2), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    outline = cv2.resize(mask.astype(np.uint8), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(outline, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(small, contours, -1, _OUTLINE, 1)
    buffer = io.BytesIO()
    Image.fromarray(small).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()
