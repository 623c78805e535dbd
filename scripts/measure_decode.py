"""The time that reduced-size JPEG decoding saves, and its effect on masks: large JPEGs, decoded whole and reduced.

    python scripts/measure_decode.py [PHOTOGRAPHS] [--scenes 12]

Images are rendered scenes at several sizes, and PHOTOGRAPHS (a folder): as they are, if large enough for a reduction,
and enlarged to 1600 px. All but the unchanged ones are saved as JPEGs of quality 90. Masks are made by the recipe
`pocket` with the bundled backbone. Times are process times of one thread, whole and reduced in turn, with resizing.
"""

import argparse
import io
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from locloc.pipeline.backbones.spec import BackboneSpec
from locloc.pipeline.backbones.vit import load_backbone
from locloc.pipeline.geometry.boxes import box_iou, largest_box, mask_iou
from locloc.pipeline.inspect.ground_truth.masks import square_truth
from locloc.pipeline.io.images import decode_image, decode_reduced
from locloc.pipeline.masks.pseudo_mask import make_mask, working_geometry
from locloc.pipeline.recipe import Recipe, load_recipe
from locloc.pipeline.synthetic import make_scene

SIZES = ((640, 480), (1024, 768), (1600, 1200), (4000, 3000))


def jpegs(photographs: Path | None, scenes: int):
    """(kind, bytes, true mask `(H, W) bool` or None) of each JPEG."""
    for size in SIZES:
        for number in range(scenes):
            scene = make_scene(0, number, 10, (1200, 1600))
            rgb = np.array(Image.fromarray(scene.rgb).resize(size, Image.BICUBIC))
            yield f"scene {size[0]} x {size[1]}", encoded(rgb), scene.mask
    for file in sorted(photographs.iterdir())[::4] if photographs else ():
        data = file.read_bytes()
        rgb = decode_image(data)
        if min(rgb.shape[:2]) >= 512 and data[:2] == b"\xff\xd8":
            yield "photographs as they are, short side 512 or more", data, None
        scale = 1600 / max(rgb.shape[:2])
        size = (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale))
        yield "photographs enlarged to 1600", encoded(np.array(Image.fromarray(rgb).resize(size, Image.BICUBIC))), None


def encoded(rgb: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=90)
    return file.getvalue()


def squares(data: bytes, recipe: Recipe, covers_px: int | None) -> tuple[np.ndarray, np.ndarray, float]:
    """Backbone input, mask image, and their process time in seconds."""
    began = time.process_time()
    image = decode_reduced(data, covers_px)
    inputs, square = (
        working_geometry(np.array(image.size_px), recipe, side).image(image.rgb, shown=image.window)
        for side in (recipe.backbone.size_px, recipe.mask_px)
    )
    return inputs, square, time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, nargs="?")
    parser.add_argument("--scenes", type=int, default=12)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    recipe = load_recipe("pocket")
    covers_px = max(recipe.backbone.size_px, recipe.mask_px)
    backbone = load_backbone(BackboneSpec("pocket"), "cpu")
    rows_by_kind: dict[str, list] = {}
    for kind, data, true in jpegs(arguments.photographs, arguments.scenes):
        whole, small = squares(data, recipe, None), squares(data, recipe, covers_px)
        masks = [
            make_mask(backbone.cls_attention(inputs[None]).half().numpy()[0], square, recipe, "id").mask
            for inputs, square, _ in (whole, small)
        ]
        boxes = [largest_box(mask)[None] for mask in masks]
        truth = [np.nan, np.nan]
        if true is not None:
            geometry = working_geometry(np.array(true.shape[1::-1]), recipe, recipe.mask_px)
            true_square = square_truth(true, geometry)
            truth = [mask_iou(mask, true_square) for mask in masks]
        apart = np.abs(whole[1].astype(int) - small[1]).mean()
        rows_by_kind.setdefault(kind, []).append(
            (whole[2] * 1e3, small[2] * 1e3, apart, mask_iou(*masks), box_iou(*boxes)[0, 0], *truth)
        )
    titles = ("whole, ms", "reduced, ms", "ratio", "levels apart", "mask IoU, mean", "median", "min", "box IoU, mean")
    table = Table("images", "n", *titles, "to truth, whole", "reduced", box=None)
    for kind, rows in rows_by_kind.items():
        whole, small, apart, iou, box, whole_truth, small_truth = np.array(rows).T
        table.add_row(
            kind,
            str(len(rows)),
            f"{whole.mean():.1f}",
            f"{small.mean():.1f}",
            f"{whole.sum() / small.sum():.2f}",
            f"{apart.mean():.2f}",
            f"{iou.mean():.4f}",
            f"{np.median(iou):.4f}",
            f"{iou.min():.4f}",
            f"{box.mean():.4f}",
            f"{whole_truth.mean():.4f}",
            f"{small_truth.mean():.4f}",
        )
    Console(width=180).print(table)


if __name__ == "__main__":
    main()
