"""Which error of several ranks is told."""

import multiprocessing
import signal
from types import SimpleNamespace

import pytest
from torch.multiprocessing.spawn import ProcessExitedException

from locloc.pipeline.errors import TrainError
from locloc.trainer.training.distributed import RankGone, _first_cause, _returned, cause_of_end, rank_gone

CAUSE, LOST = TrainError("000004 is another file"), RankGone("Rank 0 of 2 lost another rank")


@pytest.mark.parametrize(
    "returned, told", [([], None), ([LOST], LOST), ([CAUSE], CAUSE), ([LOST, CAUSE], CAUSE), ([CAUSE, LOST], CAUSE)]
)
def test_the_cause_is_told_before_those_that_lost_its_rank(returned, told):
    errors = multiprocessing.get_context("spawn").SimpleQueue()
    for rank, error in enumerate(returned):
        errors.put((rank, error))
    found = _first_cause(_returned(errors).values())
    assert (type(found), str(found)) == (type(told), str(told))
    assert errors.empty()


def ended(rank: int, code: int) -> ProcessExitedException:
    name = signal.Signals(-code).name if code < 0 else None
    return ProcessExitedException("", error_index=rank, error_pid=1, exit_code=code, signal_name=name)


KILLED = "Rank 1 of 2 was killed by signal 9 (SIGKILL; out of memory?); the same command with --resume continues"


@pytest.mark.parametrize(
    "rank, code, returned, told",
    [
        (1, -9, {}, KILLED),
        (1, -9, {0: LOST}, KILLED),
        (0, -11, {}, "Rank 0 of 2 was killed by signal 11 (SIGSEGV); the same"),
        (1, 3, {0: LOST}, "Rank 1 of 2 ended with exit code 3; the same"),
        (0, -6, {0: LOST}, str(LOST)),  # it aborted in its clean-up
        (1, -9, {0: CAUSE}, str(CAUSE)),
    ],
)
def test_a_rank_that_was_killed_is_named(rank, code, returned, told):
    assert str(cause_of_end(ended(rank, code), returned, 2)).startswith(told)


@pytest.mark.parametrize(
    "reason, told",
    [
        (
            "[/somewhere/gloo/pair.cc:545] Read error [127.0.0.1]:4042: Connection reset by peer. This may\nmore",
            "Read error [127.0.0.1]:4042: Connection reset by peer",
        ),
        ("NCCL error, " + 40 * "and more ", "NCCL error," + 16 * " and more" + " ..."),
    ],
)
def test_a_rank_that_lost_another_promises_no_message_and_cuts_no_word(reason, told):
    assert str(rank_gone(SimpleNamespace(global_rank=0, world_size=2), RuntimeError(reason))) == (
        "Rank 0 of 2 lost another rank, which has printed an error, or was killed without one (out of memory?): "
        f"{told}; the same command with --resume continues"
    )
