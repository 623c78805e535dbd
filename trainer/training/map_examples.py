"""The best and the worst maps of a trained task on its validation images, for the page of the run.

Drawn once, when the task has been trained, from its best weights: RUN/STAGE/maps-best.webp, maps-worst.webp and
maps.json, which has the ids and says of which epoch they are.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from lightning_fabric import Fabric
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import default_collate

from ...pipeline.geometry.boxes import largest_box
from ...pipeline.geometry.normalize import min_max_or_zeros
from ...pipeline.io.atomic import replacing, write_atomic
from ...pipeline.io.fonts import visible
from ...pipeline.masks.pseudo_mask import working_geometry
from ..data.batches import move_batch
from ..data.datasets import NO_AUGMENTATION, MaskPairs
from ..data.splits import TrainingRows
from ..models.checkpoint import load_checkpoint
from .run_dir import VALIDATION
from .training_tasks import TrainingTask

EXAMPLES = 8
"""Images of the best, and of the worst."""

INDEX = "maps.json"

_TRUE, _PREDICTED, _MASK = (40, 220, 90), (255, 140, 20), (86, 180, 233)


@dataclass(frozen=True)
class Example:
    """One validation image. box_iou: None without a box to compare with."""

    row: int
    mask_iou: float
    box_iou: float | None


def draw_map_examples(
    fabric: Fabric, task: TrainingTask, pairs: MaskPairs, rows: TrainingRows, folder: Path, best: dict[str, Any]
) -> None:
    """Draws the examples into `folder` of the task, unless those of the best epoch are there.

    pairs  images and masks, from which whole squares are read
    best   epoch and metrics of the best weights

    Raises OSError, and TrainError for an image that cannot be read.
    """
    if not (folder / VALIDATION).is_file() or _epoch_drawn(folder) == best["epoch"]:
        return
    chosen = choose_examples(folder / VALIDATION)
    model = load_checkpoint(folder / "best.safetensors")[0].to(fabric.device).eval()
    tau, index = float(best["figures"]["tau"]), {"epoch": best["epoch"], "tau": best["figures"]["tau"]}
    for name, examples in chosen.items():
        if not examples:
            continue
        batch = move_batch(
            default_collate([pairs[example.row, NO_AUGMENTATION] for example in examples]), fabric.device
        )
        with torch.no_grad(), fabric.autocast():
            maps = model(*task.inputs(batch))
        maps = F.interpolate(maps.float(), size=batch.target.shape[1:], mode="bilinear")[:, 0].cpu().numpy()
        panels = [
            _panels(example, image.cpu().numpy(), mask.cpu().numpy(), map_, tau, rows)
            for example, image, mask, map_ in zip(examples, batch.rgb, batch.target, maps, strict=True)
        ]
        with replacing(folder / f"maps-{name}.webp") as part, part.open("wb") as stream:
            Image.fromarray(np.concatenate(panels, 1)).save(stream, "WEBP", quality=82)
        ids = rows.ids(np.array([example.row for example in examples]))
        index[name] = [
            {"id": visible(id), "mask_iou": example.mask_iou, "box_iou": example.box_iou}
            for id, example in zip(ids, examples, strict=True)
        ]
    index["side_px"] = pairs.size_px
    write_atomic(folder / INDEX, json.dumps(index, indent=2) + "\n")


def choose_examples(validation: Path) -> dict[str, list[Example]]:
    """ "best" and "worst", the best or worst first, by the IoU of the box where images have one, else of the mask."""
    with np.load(validation) as content:
        rows, mask_iou, box_iou = content["row"], content["mask_iou"], content["box_iou"]
    known = np.isfinite(box_iou)
    if known.any():
        rows, mask_iou, box_iou = rows[known], mask_iou[known], box_iou[known]
    rising = np.lexsort((mask_iou, box_iou if known.any() else mask_iou))
    count = min(EXAMPLES, (len(rising) + 1) // 2)
    worst = rising[: min(count, len(rising) - count)]
    return {
        name: [
            Example(int(rows[n]), float(mask_iou[n]), float(box_iou[n]) if known.any() else None)
            for n in order.tolist()
        ]
        for name, order in (("best", rising[::-1][:count]), ("worst", worst))
    }


def _epoch_drawn(folder: Path) -> int | None:
    try:
        epoch = json.loads((folder / INDEX).read_text(encoding="utf-8"))["epoch"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return int(epoch)


def _panels(
    example: Example, rgb: np.ndarray, mask: np.ndarray, scores: np.ndarray, tau: float, rows: TrainingRows
) -> np.ndarray:
    """`(2 S, S, 3) uint8`: the image with outline and boxes, and below it the map. scores `(S, S) float32`."""
    scaled = min_max_or_zeros(scores)
    heat = cv2.applyColorMap((scaled * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    shown = rgb.copy()
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(shown, contours, -1, _MASK, 2, cv2.LINE_AA)
    geometry = working_geometry(rows.sizes[example.row], rows.images.recipe, len(rgb))
    truths = geometry.boxes(rows.boxes[example.row]) if example.row in rows.boxes else np.zeros((0, 4))
    for boxes, colour in ((truths, _TRUE), (largest_box(scaled > tau)[None], _PREDICTED)):
        for x0, y0, x1, y1 in np.rint(boxes).astype(int).tolist():
            cv2.rectangle(shown, (x0, y0), (x1 - 1, y1 - 1), colour, 2)
    return np.concatenate([shown, (0.5 * rgb + 0.5 * heat).astype(np.uint8)])
