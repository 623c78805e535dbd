"""Which error of several ranks is told."""

import multiprocessing

import pytest

from locloc.pipeline.errors import TrainError
from locloc.trainer.training.distributed import RankGone, _first_cause

CAUSE, LOST = TrainError("000004 is another file"), RankGone("Rank 0 of 2 lost another rank")


@pytest.mark.parametrize(
    "returned, told", [([], None), ([LOST], LOST), ([CAUSE], CAUSE), ([LOST, CAUSE], CAUSE), ([CAUSE, LOST], CAUSE)]
)
def test_the_cause_is_told_before_those_that_lost_its_rank(returned, told):
    errors = multiprocessing.get_context("spawn").SimpleQueue()
    for error in returned:
        errors.put(error)
    found = _first_cause(errors)
    assert (type(found), str(found)) == (type(told), str(told))
    assert errors.empty()
