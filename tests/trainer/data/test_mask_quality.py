"""`data.min_quality` and `data.weighting`: which masks are learned from, and how much each counts."""

import numpy as np
import pytest

from locloc.pipeline.errors import TrainError
from locloc.trainer.data.splits import load_training_rows
from locloc.trainer.recipe import DataSettings
from locloc.trainer.training.plan import task_rows


@pytest.fixture
def version(tmp_path, made, write, ids):
    """150 rows, 8 of them without a mask; qualities from 0.01 to 0.95, in the order of rows."""
    content = made(ids)
    content.splits = [1 if n % 3 else 2 for n in range(150)]
    quality = np.linspace(0.01, 0.95, 150, dtype=np.float32)
    return write(tmp_path / "masks.store", content, tmp_path / "images", {"quality": quality})


def rows_of(version, **settings):
    return load_training_rows(version, None, 0, 0.1, data=DataSettings(**settings))


def test_bad_masks_teach_nothing_but_are_validated_on(version):
    rows = rows_of(version, min_quality=0.5)
    quality = version.read_column("quality")
    train, val = task_rows("generator", rows)
    everything, every_val = task_rows("generator", rows_of(version))
    assert (quality[train] >= 0.5).all() and 40 < len(train) < len(everything)
    assert np.array_equal(val, every_val) and (quality[val] < 0.5).any()
    assert np.array_equal(task_rows("classifier", rows)[0], rows_of(version).train), "classes need no masks"


def test_weights_are_the_squares_of_qualities_and_one_on_average(version):
    rows = rows_of(version, weighting="quality", min_quality=0.2)
    train, _ = task_rows("generator", rows)
    weights, quality = rows.quality.weights, version.read_column("quality")
    assert weights[train].mean() == pytest.approx(1)
    first, last = train[0], train[-1]
    assert weights[last] / weights[first] == pytest.approx((quality[last] / quality[first]) ** 2)
    assert rows_of(version).quality is None and rows_of(version, min_quality=0.2).quality.weights is None


def test_what_cannot_be_is_told(version, tmp_path, made, write, ids, monkeypatch):
    with pytest.raises(TrainError, match=r"no training mask has a quality of 1 or more, the best has 0\.95"):
        load_training_rows(version, None, 0, 0.1, data=DataSettings(min_quality=1.0))
    old = write(tmp_path / "old.store", made(ids), tmp_path / "old")
    with pytest.raises(TrainError, match=r"have no quality, .* `locloc masks refine`"):
        rows_of(old, weighting="quality")
    monkeypatch.setitem(old.provenance, "operation", {"kind": "import"})
    with pytest.raises(
        TrainError, match=r"have no quality, .* masks of other tools have none: leave both settings out"
    ):
        rows_of(old, weighting="quality")
