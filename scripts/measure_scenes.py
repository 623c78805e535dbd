"""How far colour alone gets on synthetic scenes, or on any folder with images/ and masks/.

    locloc data synth SCENES --images 500 --classes 20 --seed 3
    python scripts/measure_scenes.py SCENES

Two baselines, each Otsu's threshold on a blurred plane: saturation, and the distance in Lab to the mean colour of the
image's border. The side that touches the border less is the object. The other baseline, centred boxes, is printed by
`locloc masks score`.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from measure_grabcut import SIZE_PX, scores

from locloc.pipeline.bench.images import load_images


def otsu(plane: np.ndarray) -> np.ndarray:
    """Plane `(H, W) uint8` > the side of Otsu's threshold that touches the border less, `(H, W) bool`."""
    mask = cv2.threshold(cv2.GaussianBlur(plane, (0, 0), 2), 0, 255, cv2.THRESH_OTSU)[1] > 0
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return ~mask if border.mean() > 0.5 else mask


def by_saturation(rgb: np.ndarray) -> np.ndarray:
    return otsu(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)[..., 1])


def by_border_colour(rgb: np.ndarray, border_px: int = 8) -> np.ndarray:
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB).astype(np.float32)
    inner = np.zeros(lab.shape[:2], bool)
    inner[border_px:-border_px, border_px:-border_px] = True
    return otsu(np.linalg.norm(lab - lab[~inner].mean(0), axis=2).clip(0, 255).astype(np.uint8))


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    images = load_images(folder / "images", folder / "masks", 0, SIZE_PX).images
    truths = [image.truth for image in images]
    shares = np.array([truth.mean() for truth in truths])
    low, middle, high = np.quantile(shares, [0, 0.5, 1])
    print(f"{len(images)} scenes; the object covers {low:.0%} to {high:.0%}, median {middle:.0%}")
    for name, method in (("Otsu, saturation", by_saturation), ("Otsu, Lab distance to the border", by_border_colour)):
        iou, box, corloc = scores([method(image.rgb) for image in images], truths)
        print(f"{name}: mask IoU {iou:.3f}, box IoU {box:.3f}, CorLoc {corloc:.3f}")


if __name__ == "__main__":
    main()
