"""Verifies a finished build on its workers, before they leave.

Only the word "intact" is taken from a worker. What a worker finds wrong, cannot read or does not answer for, the
coordinator reads itself afterwards (`StoreWriter.verify`). So a version is refused for the same rows and with the same
line wherever it was verified, and verifying survives the loss of workers and of their scheduler.
"""

import queue
import time
from collections import deque
from typing import TYPE_CHECKING

from ..errors import BuildError
from ..io.interrupts import raise_if_interrupted
from ..store.verification import Part
from .cluster import Cluster

if TYPE_CHECKING:
    from distributed import Future

SMALL_PARTS = 16  # a build on this machine with fewer is verified by the coordinator, within some seconds
PARTS_IN_FLIGHT = 2  # a worker
TRIES = 2  # of a part
POLL_S = 2.0  # between two checks of the cluster
RESULT_S = 10.0  # for a finished result to arrive
WITHOUT_WORKERS_S = 30.0  # then the coordinator does what is left


def intact_parts(parts: list[Part], cluster: Cluster) -> set[int]:
    """The first rows of those parts that workers found intact; of fewer where workers or their scheduler are lost."""
    intact: set[int] = set()
    try:
        _ask_workers(parts, cluster, intact)
    except Exception as error:
        if not isinstance(error, BuildError) and not _is_lost(cluster):
            raise
    return intact


def _is_lost(cluster: Cluster) -> bool:
    """Whether errors of many types are to be expected."""
    try:
        cluster.check()
    except BuildError:
        return True
    return False


def _ask_workers(parts: list[Part], cluster: Cluster, intact: set[int]) -> None:
    """Adds to `intact`, until all parts have an answer or nobody is there to give one. Raises BuildError."""
    waiting = deque((part, TRIES) for part in parts)
    in_flight: dict[str, tuple[Part, int, Future]] = {}
    answers: queue.SimpleQueue[Future] = queue.SimpleQueue()
    submitted = window = 0
    poll_at = seen_at = time.monotonic()
    while waiting or in_flight:
        raise_if_interrupted()
        if (now := time.monotonic()) >= poll_at:
            if workers := cluster.check():
                seen_at = now
            elif now - seen_at > WITHOUT_WORKERS_S:
                return
            poll_at, window = now + POLL_S, PARTS_IN_FLIGHT * max(1, workers)
        while waiting and len(in_flight) < window:
            part, tries = waiting.popleft()
            key, submitted = f"verify-{cluster.run}-{submitted}", submitted + 1
            future = cluster.client.submit(Part.is_intact, part, key=key, resources=cluster.refine_on)
            in_flight[key] = part, tries - 1, future
            future.add_done_callback(answers.put)
        try:
            done = answers.get(timeout=POLL_S)
        except queue.Empty:
            continue
        part, tries, _ = in_flight.pop(str(done.key))
        try:
            if done.result(timeout=RESULT_S):
                intact.add(part.start)
        except Exception:  # of any type: a dead worker, storage that does not answer, damage
            if tries:
                waiting.append((part, tries))
