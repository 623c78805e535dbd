"""Trimaps from simulated saliency are reproducible."""

import numpy as np
import pytest

from locloc.pipeline.bench.images import make_images
from locloc.pipeline.bench.problems import SIMULATIONS, simulated_problems


@pytest.mark.parametrize("simulation", SIMULATIONS)
def test_simulated_problems(simulation):
    images = make_images(2, 32).images
    problems, trimap_s = simulated_problems(images, simulation)
    again, _ = simulated_problems(images, simulation)
    assert trimap_s >= 0 and [problem.seed for problem in problems] == [0, 1]
    for problem, repeated, image in zip(problems, again, images, strict=True):
        np.testing.assert_array_equal(problem.trimap, repeated.trimap)
        assert problem.rgb is image.rgb and set(np.unique(problem.trimap)) <= {0, 1, 2, 3}
