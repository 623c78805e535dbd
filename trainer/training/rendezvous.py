"""Where the ranks of a run meet: within a minute, or with one line that says who waited for whom.

PyTorch waits for ten to thirty minutes in C, where Python hears no signal. So every rank first writes its name into a
store that rank 0 serves, and the waiting is done in a thread, for a limited time.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch.distributed as dist
from lightning_fabric.strategies.ddp import DDPStrategy
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # re-exported without __all__

from ...pipeline.errors import TrainError
from ...pipeline.io.log_level import log_level

LIMIT_S = 60.0
"""Seconds that a rank waits for the others; LOCLOC_RENDEZVOUS_S changes it."""

_POLL_S = 0.1

ResultT = TypeVar("ResultT")


class MeetingDDP(DDPStrategy):
    """DDP whose ranks meet in `meet` before PyTorch's process group is made."""

    _meeting: Store | None = None

    def _setup_distributed(self) -> None:
        environment = self.cluster_environment
        assert environment is not None
        limit_s = rendezvous_limit_s()
        self._set_world_ranks()
        where = environment.main_address, environment.main_port
        # The store lives as long as the strategy: rank 0 serves it, also to the process group.
        self._meeting = meet(*where, self.global_rank, self.world_size, limit_s)
        with log_level("lightning_fabric", logging.WARNING):  # else every rank prints a banner
            hear_signals(super()._setup_distributed, limit_s, f"the process group of {self.world_size} ranks")


def rendezvous_limit_s() -> float:
    text = os.environ.get("LOCLOC_RENDEZVOUS_S", "")
    try:
        return float(text) if text else LIMIT_S
    except ValueError:
        raise TrainError(f"LOCLOC_RENDEZVOUS_S={text} is no number of seconds") from None


def meet(address: str, port: int, rank: int, world_size: int, limit_s: float) -> Store:
    """Waits until all ranks are there; returns the store they met in, which rank 0 serves.

    Raises TrainError after `limit_s`: on rank 0 with the ranks that are missing, on others with rank 0's address.
    """
    end = time.monotonic() + limit_s
    where = f"{address}:{port}"

    def connect() -> Store:
        serves = _serves(rank)
        while not serves and not _answers(address, port):  # TCPStore itself would print its traceback
            if time.monotonic() > end:
                raise TrainError(f"{said}, which did not come; is it started, and is MASTER_ADDR its host?")
            time.sleep(_POLL_S)
        return TCPStore(address, port, world_size, serves, timedelta(seconds=limit_s), False, True)

    said = f"Rank {rank} of {world_size} on {socket.gethostname()} waited {limit_s:g} s for rank 0 at {where}"
    try:
        store = hear_signals(connect, limit_s, said)
        meeting = PrefixStore(f"locloc/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        meeting.set(str(rank), "here")
        while missing := [other for other in range(world_size) if not meeting.check([str(other)])]:
            if time.monotonic() > end:
                raise TrainError(_not_there(rank, world_size, missing, limit_s))
            time.sleep(_POLL_S)
        meeting.set(f"{rank} has seen all", "yes")
        if rank == 0:  # rank 0's process serves the store: it stays until the others have looked
            while time.monotonic() < end and not meeting.check(
                [f"{other} has seen all" for other in range(world_size)]
            ):
                time.sleep(_POLL_S)
    except dist.DistError as error:
        reason = str(error).splitlines()[0][:200]
        if "EADDRINUSE" in str(error) or "in use" in str(error):
            raise TrainError(
                f"Port {port} of {address} is in use; set MASTER_PORT to a free one on all ranks"
            ) from None
        raise TrainError(f"{said}: {reason}; are all ranks started, and is MASTER_ADDR rank 0's host?") from None
    return store


def _answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def _serves(rank: int) -> bool:
    """Whether a rank serves the store: rank 0, unless torchrun's agent does already."""
    return rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"


def _not_there(rank: int, world_size: int, missing: list[int], limit_s: float) -> str:
    shown = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
    return (
        f"Rank {rank} on {socket.gethostname()} waited {limit_s:g} s for {len(missing)} of {world_size} ranks "
        f"({shown}), which did not come; start all of them with srun or torchrun, or a single process without "
        "their variables. LOCLOC_RENDEZVOUS_S=300 waits longer"
    )


def hear_signals(wait: Callable[[], ResultT], limit_s: float, what: str) -> ResultT:
    """Calls `wait` in a thread, so that the main thread hears signals. Raises TrainError after `limit_s`."""
    results: list[ResultT] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(wait())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="rendezvous", daemon=True)
    thread.start()
    end = time.monotonic() + limit_s + 1  # a second more than `wait` itself, whose own error says more
    while thread.is_alive() and time.monotonic() < end:
        thread.join(_POLL_S)
    if errors:
        raise errors[0]
    if not results and thread.is_alive():
        raise TrainError(f"{what}: nothing came within {limit_s:g} s")
    return results[0]
