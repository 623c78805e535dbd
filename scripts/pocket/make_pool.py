"""Pre-render training scenes, so that the ViT never waits for the generator.

    python scripts/pocket/make_pool.py SEED FIRST LAST

Shard k holds scenes k*2000 .. k*2000+1999 of SEED, stretched to 256x256: rgb (2000, 256, 256, 3) uint8,
mask (2000, 64, 64) uint8 (area average x 255), label (2000,) int64. Training seeds are 1000 and up; 0 to 999 never are.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from locloc.pipeline.synthetic import make_scene

SHARD, CLASSES, SIDES = 2000, 84, (200, 330)
POOL = Path("pocket-training/pool")  # below where it is started: 4.8 GB for 24,000 scenes


def make_shard(seed: int, shard: int) -> None:
    rgb = np.empty((SHARD, 256, 256, 3), np.uint8)
    mask = np.empty((SHARD, 64, 64), np.uint8)
    label = np.empty(SHARD, np.int64)
    for i in range(SHARD):
        scene = make_scene(seed, shard * SHARD + i, CLASSES, SIDES)
        rgb[i] = cv2.resize(scene.rgb, (256, 256), interpolation=cv2.INTER_AREA)
        mask[i] = cv2.resize(scene.mask.astype(np.uint8) * 255, (64, 64), interpolation=cv2.INTER_AREA)
        label[i] = scene.label
    for name, array in (("rgb", rgb), ("mask", mask), ("label", label)):
        np.save(POOL / f"{seed}-{shard:03d}-{name}.npy", array)
    print(seed, shard, flush=True)


if __name__ == "__main__":
    cv2.setNumThreads(1)
    POOL.mkdir(parents=True, exist_ok=True)
    if int(sys.argv[1]) < 1000:
        raise SystemExit("seeds below 1000 are kept for validation and tests")
    for k in range(int(sys.argv[2]), int(sys.argv[3])):
        make_shard(int(sys.argv[1]), k)
