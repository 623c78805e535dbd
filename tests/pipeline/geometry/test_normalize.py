"""Min-max normalisation."""

import numpy as np
import pytest

from locloc.pipeline.geometry.normalize import min_max, min_max_or_zeros


def test_a_map_is_stretched_to_its_own_range():
    values = np.array([[3.0, 1.0], [2.0, 1.5]])
    assert min_max(values).tolist() == min_max_or_zeros(values).tolist() == [[1, 0], [0.5, 0.25]]
    assert min_max(values.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("value", [7.0, np.nan, np.inf])
def test_a_flat_map_and_one_that_is_not_finite_have_no_range(value):
    values = np.full((2, 2), 7.0)
    values[0, 0] = value
    assert min_max(values) is None
    assert min_max_or_zeros(values).tolist() == [[0, 0], [0, 0]]
