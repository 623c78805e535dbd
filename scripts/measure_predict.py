"""How near `locloc predict` comes to the model's own throughput: decoding and finishing overlapped with it.

    python scripts/measure_predict.py RUN IMAGES... [--rounds 5] [--device auto] [--torch-threads 1]

The model alone is given squares that lie ready in memory. In turn: model alone, predictions (decoded, mask and box in
original pixels, nothing written), and the whole command with COCO and overlays. The ratios are of each round, so that
a machine that others use as well moves both sides. On a CPU the threads that decode need cores of their own:
--torch-threads leaves them some; without it model and decoding share them all. `--elsewhere-ms 20` puts in the model's
place one that takes 20 ms an image and no processor, as one on a GPU does: its outputs are those of the first batch.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from locloc.trainer.inference.batch import DEFAULT_FORMATS, predict_files
from locloc.trainer.inference.inputs import find_inputs
from locloc.trainer.inference.predict import Predictor
from locloc.trainer.models.localizer import load_localizer


def timed(run) -> tuple[float, float]:
    """Seconds on the clock, and of all the process's threads."""
    clock, work = time.perf_counter(), time.process_time()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - clock, time.process_time() - work


def elsewhere(predictor: Predictor, ms: float, first: list) -> None:
    """Lets the model's batches last `ms` an image without computing them."""
    maps, logits = predictor._run(first)

    def run(shots: list) -> tuple:
        time.sleep(len(shots) * ms / 1000)
        return maps[: len(shots)], logits[: len(shots)]

    predictor._run = run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("images", nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--torch-threads", type=int)
    parser.add_argument("--backbone")
    parser.add_argument("--weights")
    parser.add_argument("--elsewhere-ms", type=float)
    given = parser.parse_args()
    if given.torch_threads:
        torch.set_num_threads(given.torch_threads)
    localizer = load_localizer(given.run, given.device, backbone=given.backbone, weights=given.weights)
    predictor = Predictor(localizer, given.batch)
    where = [source.where for source in find_inputs(given.images)]
    shots = [predictor._read(number, one, None) for number, one in enumerate(where)]
    batches = [shots[start : start + predictor.batch] for start in range(0, len(shots), predictor.batch)]

    if given.elsewhere_ms:
        elsewhere(predictor, given.elsewhere_ms, batches[0])

    def alone() -> None:
        for batch in batches:
            predictor._run(batch)

    def predictions() -> None:
        for _ in predictor.each(where):
            pass

    def command() -> None:
        with tempfile.TemporaryDirectory() as folder:
            formats, out = DEFAULT_FORMATS, Path(folder, "out")
            predict_files(predictor, given.run, given.images, out, formats, 5, None, lambda done, total: None)

    alone()
    rounds = np.array([[timed(run) for run in (alone, predictions, command)] for _ in range(given.rounds)])
    print(f"{len(where)} images on {localizer.device}, {torch.get_num_threads()} threads of torch, "
          f"{predictor.threads} that read and finish, batches of {predictor.batch}")  # fmt: skip
    for number, name in enumerate(("the model alone", "predictions", "with COCO and overlays")):
        clock, work = np.median(rounds[:, number], axis=0)
        ratio = 1 / np.median(rounds[:, number, 0] / rounds[:, 0, 0])
        rate = f"{len(where) / clock:7.1f} images/s, {ratio:.3f} of the model's"
        print(f"{name:>22}: {rate}; {1000 * work / len(where):.1f} ms of processor time an image")


if __name__ == "__main__":
    main()
