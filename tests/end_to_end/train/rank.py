"""One process of several, for tests: trains as `locloc train` does, and notes the rows that it loads.

torchrun ... rank.py STORE@V OUT SEEN, where SEEN is a folder for a file a process.
"""

import os
import sys
from pathlib import Path

from locloc.trainer.data.datasets import NO_AUGMENTATION, LabelledImages, MaskPairs
from locloc.trainer.recipe import load_train_recipe
from locloc.trainer.training.request import RuntimeConfig, TrainRequest
from locloc.trainer.training.run import train

CHANGES = (
    "generator.fit.epochs=2",
    "generator.fit.batch_size=10",
    "classifier.fit.epochs=1",
    "classifier.fit.batch_size=10",
)


def noted(kind: type, file: Path) -> None:
    read = kind.__getitem__

    def read_and_note(self, sample):
        row, draw = sample
        if draw != NO_AUGMENTATION:
            with file.open("a") as stream:
                stream.write(f"{kind.__name__} {row}\n")
        return read(self, sample)

    kind.__getitem__ = read_and_note


def main() -> None:
    version, out, seen = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    for kind in (MaskPairs, LabelledImages):
        noted(kind, seen / os.environ.get("RANK", "0"))
    recipe = load_train_recipe("locloc", "synthetic", CHANGES)
    train(TrainRequest(version, out, recipe, "locloc", runtime=RuntimeConfig(accelerator="cpu", workers=0)))


if __name__ == "__main__":
    main()
