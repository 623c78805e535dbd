"""The throughput of `locloc predict` as a share of the model's own, with decoding and finishing overlapped.

    python scripts/measure_predict.py RUN IMAGES... [--rounds 5] [--device auto] [--torch-threads 1]

Measures in turn: the model alone on squares that are in memory; predictions (decoded, mask and box in original pixels,
nothing written); and the whole command with COCO and overlays. Ratios are taken within a round, so that other load on
the machine affects both sides. On a CPU the decoding threads need cores of their own: --torch-threads leaves them some;
without it the model and decoding share all cores. `--elsewhere-ms 20` replaces the model by one that takes 20 ms an
image and no CPU time, like a model on a GPU: its outputs are those of the first batch.
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
    """Wall time, and CPU time of all threads, in seconds."""
    clock, work = time.perf_counter(), time.process_time()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - clock, time.process_time() - work


def elsewhere(predictor: Predictor, ms: float, first: list) -> None:
    """Replaces the model by one that sleeps `ms` an image."""
    outputs = predictor._run(first)

    def run(images: list) -> list:
        time.sleep(len(images) * ms / 1000)
        return outputs[: len(images)]

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
    options = parser.parse_args()
    if options.torch_threads:
        torch.set_num_threads(options.torch_threads)
    localizer = load_localizer(options.run, options.device, backbone=options.backbone, weights=options.weights)
    predictor = Predictor(localizer, options.batch)
    where = [source.where for source in find_inputs(options.images)]
    images = [predictor._read(number, image, None) for number, image in enumerate(where)]
    batches = [images[start : start + predictor.batch] for start in range(0, len(images), predictor.batch)]

    if options.elsewhere_ms:
        elsewhere(predictor, options.elsewhere_ms, batches[0])

    def alone() -> None:
        for batch in batches:
            predictor._run(batch)

    def predictions() -> None:
        for _ in predictor.each(where):
            pass

    def command() -> None:
        with tempfile.TemporaryDirectory() as folder:
            formats, out = DEFAULT_FORMATS, Path(folder, "out")
            inputs = find_inputs(options.images)
            predict_files(predictor, options.run, inputs, out, formats, 5, None, lambda done, total: None)

    alone()
    rounds = np.array([[timed(run) for run in (alone, predictions, command)] for _ in range(options.rounds)])
    print(f"{len(where)} images on {localizer.device}, {torch.get_num_threads()} threads of torch, "
          f"{predictor.threads} that read and finish, batches of {predictor.batch}")  # fmt: skip
    for number, name in enumerate(("the model alone", "predictions", "with COCO and overlays")):
        clock, work = np.median(rounds[:, number], axis=0)
        ratio = 1 / np.median(rounds[:, number, 0] / rounds[:, 0, 0])
        rate = f"{len(where) / clock:7.1f} images/s, {ratio:.3f} of the model's"
        print(f"{name:>22}: {rate}; {1000 * work / len(where):.1f} ms of processor time an image")


if __name__ == "__main__":
    main()
