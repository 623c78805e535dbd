"""What GrabCut adds to a saliency map, on real photographs with ground-truth masks, without any backbone.

    python scripts/measure_grabcut.py PHOTOGRAPHS MASKS

Saliency is simulated from the truth (simulation A of pipeline/bench/problems.py) and cut at its thresholds. Masks are
image files with the photographs' names (any suffix); brighter than half is object. Prints a line for each
initialisation of the unknown pixels, with 1 and 5 iterations: mean IoU of mask and box with the truth.
"""

import argparse
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from locloc.pipeline.bench.images import load_images
from locloc.pipeline.bench.problems import THRESHOLDS, smooth_saliency
from locloc.pipeline.errors import BenchError
from locloc.pipeline.geometry.boxes import CORRECT_IOU, box_iou, largest_box, mask_iou
from locloc.pipeline.masks.grabcut import OpenCVGrabCut
from locloc.pipeline.masks.saliency import make_trimap

SIZE_PX = 256


def scores(masks: list[np.ndarray], truths: list[np.ndarray]) -> tuple[float, float, float]:
    """Mean mask IoU, mean IoU of the largest contours' boxes, and CorLoc (share of boxes with IoU >= CORRECT_IOU)."""
    ious = [mask_iou(mask, truth) for mask, truth in zip(masks, truths, strict=True)]
    boxes = [
        box_iou(largest_box(mask)[None], largest_box(truth)[None])[0, 0]
        for mask, truth in zip(masks, truths, strict=True)
    ]
    return float(np.mean(ious)), float(np.mean(boxes)), float(np.mean(np.array(boxes) >= CORRECT_IOU))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("masks", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        images = load_images(arguments.photographs, arguments.masks, 0, SIZE_PX).images
    except BenchError as error:
        sys.exit(str(error))
    truths = [image.truth for image in images]
    saliencies = [smooth_saliency(truth, seed) for seed, truth in enumerate(truths)]

    table = Table("mask", "mask IoU", "box IoU", "gain, points", "ms an image", box=None)
    base, base_box, _ = scores([saliency >= THRESHOLDS.threshold for saliency in saliencies], truths)
    table.add_row("thresholded map", f"{base:.4f}", f"{base_box:.4f}", "", "")
    for unknown_init in ("background", "split", "foreground"):
        settings = THRESHOLDS.model_copy(update={"unknown_init": unknown_init})
        for iterations in (1, 5):
            engine, began = OpenCVGrabCut(iterations=iterations), time.process_time()
            masks = [
                engine(image.rgb, make_trimap(saliency, settings), seed)
                for seed, (image, saliency) in enumerate(zip(images, saliencies, strict=True))
            ]
            spent = (time.process_time() - began) / len(images) * 1e3
            iou, box, _ = scores(masks, truths)
            name = f"opencv, unknown starts as {unknown_init}, {iterations} it."
            table.add_row(name, f"{iou:.4f}", f"{box:.4f}", f"{100 * (iou - base):+.1f}", f"{spent:.0f}")
    console = Console()
    console.print(f"{len(images)} photographs at {SIZE_PX} px")
    console.print(table)


if __name__ == "__main__":
    main()
