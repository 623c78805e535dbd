import math

import pytest

from locloc.trainer.commands.rendering import progress_line
from locloc.trainer.training.loop import TrainingProgress


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (
            TrainingProgress("generator: tokens of images", 0, 0, 32, 960, math.nan, 0.0, 2.5, 371.2),
            "generator: tokens of images: 32 of 960, 2.5 images/s, 6 min 11 s left",
        ),
        (
            TrainingProgress("generator", 2, 8, 10, 23, 0.0631, 1.25e-4, 5.3, 60.0),
            "generator, epoch 2 of 8: 10 of 23 steps, loss 0.0631, lr 1.25e-04, 5.3 images/s, 1 min 00 s left",
        ),
        (
            TrainingProgress("generator", 2, 8, 0, 23, math.nan, 1.25e-4, 0.0, 0.0),
            "generator, epoch 2 of 8: 0 of 23 steps",
        ),
    ],
)
def test_a_line_of_progress(progress, line):
    assert progress_line(progress).plain == line
