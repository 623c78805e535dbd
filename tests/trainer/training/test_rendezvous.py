"""Ranks meet, or say within the limit who waited for whom; signals are heard meanwhile."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import torch.distributed as dist

from locloc.pipeline.errors import TrainError
from locloc.pipeline.io.interrupts import interruptible
from locloc.trainer.training import rendezvous
from locloc.trainer.training.rendezvous import hear_signals, meet, rendezvous_limit_s


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_ranks_that_come_meet(port):
    stores: dict[int, dist.Store] = {}

    def come(rank: int) -> None:
        time.sleep(0.2 * (2 - rank))  # rank 0, which serves, is the last one
        stores[rank] = meet("127.0.0.1", port, rank, 3, 20)

    ranks = [threading.Thread(target=come, args=(rank,)) for rank in range(3)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert sorted(stores) == [0, 1, 2]


def test_rank_0_names_those_that_did_not_come(port):
    begun = time.monotonic()
    with pytest.raises(
        TrainError, match=r"Rank 0 on .* waited 1 s for 11 of 12 ranks \(1, 2, .*, 8, \.\.\.\)"
    ) as caught:
        meet("127.0.0.1", port, 0, 12, 1)  # less, and a busy machine may not reach its own store
    assert time.monotonic() < begun + 3 and "\n" not in str(caught.value)


def test_another_rank_names_rank_0(port):
    begun = time.monotonic()
    with pytest.raises(TrainError, match=rf"Rank 3 of 8 on .* waited 0.3 s for rank 0 at 127.0.0.1:{port}"):
        meet("127.0.0.1", port, 3, 8, 0.3)
    assert time.monotonic() < begun + 3


def test_a_port_in_use_is_named(port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(TrainError, match=f"Port {port} of 127.0.0.1 is in use; set MASTER_PORT"):
            meet("127.0.0.1", port, 0, 2, 5)


@pytest.fixture
def in_foreground() -> Iterator[None]:
    """A shell's background job, such as these tests may be, ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heard_while_c_waits(stop, in_foreground):
    done = threading.Event()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interruptible():
        threading.Timer(0.2, os.kill, (os.getpid(), stop)).start()
        hear_signals(lambda: done.wait(30), 60, "the others")
    done.set()
    assert time.monotonic() < begun + 5


def test_what_never_comes_ends_and_errors_come_through():
    with pytest.raises(TrainError, match="the others: nothing came within 0.1 s"):
        hear_signals(lambda: time.sleep(2), 0.1, "the others")
    with pytest.raises(ValueError, match="of the call"):
        hear_signals(lambda: int("of the call"), 1, "the others")


def test_the_limit_is_a_setting(monkeypatch):
    assert rendezvous_limit_s() == rendezvous.LIMIT_S == 60
    monkeypatch.setenv("LOCLOC_RENDEZVOUS_S", "300")
    assert rendezvous_limit_s() == 300
    monkeypatch.setenv("LOCLOC_RENDEZVOUS_S", "soon")
    with pytest.raises(TrainError, match="LOCLOC_RENDEZVOUS_S=soon is no number"):
        rendezvous_limit_s()
