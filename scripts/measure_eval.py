"""The cost of evaluation: process time and peak memory for score maps of 224 x 224 under all protocols.

    python scripts/measure_eval.py [--maps 5794] [--kinds 64]

Maps are synthetic, saved as float32 in a temporary folder (300 KB each; --kinds different ones, the rest hard links).
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from locloc.trainer.evaluation.evaluate import evaluate
from locloc.trainer.evaluation.protocols import protocols_named
from locloc.trainer.evaluation.resolve import resolve_score_maps
from locloc.trainer.evaluation.table import print_evaluation
from locloc.trainer.evaluation.wsol_files import MAP_PX, write_metadata


def make_maps(folder: Path, count: int, kinds: int) -> None:
    """Blobs with soft edges and texture; a third of them with pixel noise, as a network's maps never have."""
    rng, metadata = np.random.default_rng(0), []
    y, x = np.mgrid[:MAP_PX, :MAP_PX]
    for number in range(count):
        file = folder / "maps" / f"{number:05}.jpg.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        centre, sides = rng.uniform(70, 150, 2), rng.uniform(15, 60, 2)
        if number < kinds:
            one = np.exp(-(((x - centre[0]) / sides[0]) ** 2 + ((y - centre[1]) / sides[1]) ** 2) / 2)
            one += 0.3 * cv2.resize(rng.random((14, 14)), (MAP_PX, MAP_PX), interpolation=cv2.INTER_CUBIC)
            one += 0.05 * rng.random(one.shape) * (number % 3 == 0)
            np.save(file, ((one - one.min()) / (one.max() - one.min())).astype(np.float32))
        else:
            file.hardlink_to(folder / "maps" / f"{number % kinds:05}.jpg.npy")
        box = np.concatenate([centre - sides, centre + sides]).clip(0, MAP_PX - 1)[None]
        metadata.append((f"{number:05}.jpg", (MAP_PX, MAP_PX), 0, box))
    write_metadata(folder / "test", metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=5794)
    parser.add_argument("--kinds", type=int, default=64)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    protocols = protocols_named("all")
    with tempfile.TemporaryDirectory() as folder:
        for count, name in ((min(8, given.maps), "first"), (given.maps, "all")):  # the first compile the contours
            at = Path(folder, name)
            make_maps(at, count, given.kinds)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            began, wall = time.process_time(), time.perf_counter()
            images, predictors, tau = resolve_score_maps(at / "maps", at, "test", None, "sweep")
            done = evaluate(images, predictors, protocols, "test", tau, centred=True)
            cpu, seconds = time.process_time() - began, time.perf_counter() - wall
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(
                f"{count} maps: {cpu:.1f} s of process time ({cpu / count * 1000:.1f} ms a map), {seconds:.1f} s of "
                f"wall clock; peak {after / 1024:.0f} MiB, {(after - before) / 1024:.0f} MiB more than before"
            )
        print_evaluation(done)


if __name__ == "__main__":
    main()
