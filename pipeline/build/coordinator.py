"""Makes a version: sends blocks to workers and writes what they make to the store. The coordinator of every build.

It keeps a window of about two blocks a worker in flight, merges what comes back, and commits a checkpoint every few
seconds. Its memory is the catalog and the small columns, however many blocks there are. Whatever fails, the store keeps
what was merged: a block that fails is tried again; one that kills workers is made image by image (isolation.py).
"""

import queue
import time
from collections import Counter, deque
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace

from distributed import Future, KilledWorker
from distributed.scheduler import NoValidWorkerError
from icechunk import ForkSession, IcechunkError

from ..errors import BuildError, LocLocError, StoreError, UnreachableError
from ..io.interrupts import raise_if_interrupted, signals_held_back
from ..io.timing import timed
from ..masks.grabcut import kernels_of, refines_on_gpu
from ..status import Status
from ..store.writer import StoreWriter
from .cluster import Cluster, open_cluster
from .event_log import EventLog, default_event_log
from .isolation import refine_isolated_and_write
from .progress import ProgressCounter
from .spec import BuildSpec, BuildSummary, OnProgress, RunSettings
from .tasks import Block, BlockResult, TaskContext, attend, refine_and_write

BLOCKS_IN_FLIGHT = 2  # a worker: one at work and one waiting, so that none is idle while the coordinator commits
TRIES = 3
CHECK_S = 2.0  # between looks at the cluster
RESULT_S = 10.0  # for a result that is there to arrive

# May have gone by the next try; where there are no workers for long, the cluster's check says so before the third.
_TRANSIENT = (IcechunkError, NoValidWorkerError, OSError, StoreError, UnreachableError)


def make_version(spec: BuildSpec, writer: StoreWriter, run: RunSettings, on_progress: OnProgress) -> BuildSummary:
    """Begins or resumes the build's branch, makes the unfinished blocks, and publishes. The writer has been entered."""
    if spec.name is not None:
        writer.check_name(spec.name)
    with EventLog(run.log or default_event_log(spec.store, spec.metadata["build_id"])) as log:
        counter = ProgressCounter(on_progress)
        if log.trouble:
            counter.say(log.trouble)
        metadata = spec.metadata | {"name": spec.name}  # kept for `masks resume`
        writer.begin(metadata, spec.catalog, spec.attention, spec.context.recipe.mask_px, spec.shared)
        counter.begin(writer.status)
        unfinished = int((writer.block_done == 0).sum())
        facts = ("build_id", "fingerprint", "operation", "parent", "recipe_name", "code_version", "packages", "host")
        log.write(
            "begin",
            store=str(spec.store),
            rows=len(spec.catalog),
            blocks=len(writer.block_done),
            blocks_to_do=unfinished,
            **{name: spec.metadata[name] for name in facts},
        )
        worker_s = _make_blocks(spec, unfinished, writer, run, counter, log) if unfinished else 0.0
        counter.say("verifying")
        with timed(counter.coordinator_s, "verify"):
            writer.verify()
        raise_if_interrupted()
        with signals_held_back(), timed(counter.coordinator_s, "publish"):
            version = writer.publish(spec.name)
        if spec.name not in (None, version):
            counter.say(f"note: {spec.name} is the name of a deleted version, which cannot be used again")
        log.write("end", version=version, counts=writer.counts, coordinator_s=dict(counter.coordinator_s))
        return BuildSummary(
            version,
            spec.fingerprint,
            writer.counts,
            new_rows=counter.new_rows,
            images_per_s=counter.images_per_s,
            stage_s=dict(counter.stage_s),
            worker_s=worker_s,
            coordinator_s=dict(counter.coordinator_s),
            log=str(log.file) if log.file else None,
        )


def _make_blocks(
    spec: BuildSpec, unfinished: int, writer: StoreWriter, run: RunSettings, counter: ProgressCounter, log: EventLog
) -> float:
    """Makes the unfinished blocks on a cluster; returns the worker seconds that were available."""
    if (caution := _caution(spec)) is not None:
        counter.say(caution)
    kernels, began = kernels_of(spec.context.recipe.refine), time.monotonic()
    with open_cluster(run.cluster, spec.context.backbone, unfinished, counter.say, kernels) as cluster:
        log.write("ready", seconds=round(time.monotonic() - began, 3), device=cluster.device, kernels=kernels)
        context = replace(
            spec.context,
            device=cluster.device,
            decode_threads=cluster.decode_threads,
            image_limit_s=run.image_limit_s,
        )
        counter.start()
        loop = BlockLoop(cluster, spec, context, writer, run.checkpoint_s, counter, log)
        loop.run()
        return loop.worker_s


def _caution(spec: BuildSpec) -> str | None:
    backbone = spec.metadata["backbone"]
    if backbone["weights"] == "random":
        return "note: with random weights the masks mean nothing"
    if backbone["weights"] == "bundled":
        return (
            f"note: {backbone['name']} is a stand-in for trying things out; "
            "for real work give --backbone vit_small_patch16_224.dino"
        )
    return None


@dataclass(frozen=True)
class _Attempt:
    """A block in flight."""

    block: Block
    failures: int = 0  # by exceptions that may pass
    isolated: bool = False  # it has killed workers, and is made image by image
    deaths: int = 0  # of workers, while it was isolated


class BlockLoop:
    """Sends a build's unfinished blocks through a cluster, and handles what becomes of each."""

    def __init__(
        self,
        cluster: Cluster,
        spec: BuildSpec,
        context: TaskContext,
        writer: StoreWriter,
        checkpoint_s: float,
        counter: ProgressCounter,
        log: EventLog,
    ):
        self._cluster, self._context, self._writer = cluster, context, writer
        self._checkpoint_s, self._counter, self._log = checkpoint_s, counter, log
        self._blocks = spec.unfinished_blocks(writer.block_done)
        self._left = int((writer.block_done == 0).sum())
        self._again: deque[_Attempt] = deque()
        self._in_flight: dict[str, _Attempt] = {}
        self._landed: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._submitted = 0
        self.worker_s = 0.0

    def run(self) -> None:
        """Until all are in the store. Raises BuildError; an error or Ctrl-C too keeps what is finished."""
        self._looked_at = time.monotonic()
        self._look()
        checkpoint_at = time.monotonic() + self._checkpoint_s
        try:
            while self._fill():
                self._take_one()
                raise_if_interrupted()
                if time.monotonic() >= self._look_at:
                    self._look()
                if time.monotonic() >= checkpoint_at:
                    self._checkpoint()
                    checkpoint_at = time.monotonic() + self._checkpoint_s
        except BaseException as error:
            try:
                self._checkpoint()
            except StoreError as second:  # the same trouble, most likely
                error.add_note(f"nor could the last blocks be kept: {second}")
            if isinstance(error, Exception) and not isinstance(error, LocLocError):
                self._cluster.check()  # what a client says whose scheduler is lost is of many kinds
            raise
        self._checkpoint()
        self._count_time()

    def _look(self) -> None:
        workers = self._cluster.check()
        self._cluster.want(self._left)
        self._count_time()
        if workers != self._counter.workers:
            self._log.write("workers", workers=workers)
        self._counter.workers, self._look_at = workers, self._looked_at + CHECK_S
        self._window = BLOCKS_IN_FLIGHT * max(1, workers)

    def _count_time(self) -> None:
        now = time.monotonic()
        self.worker_s += (self._counter.workers or 0) * (now - self._looked_at)
        self._looked_at = now

    def _fill(self) -> bool:
        """Sends blocks out until the window is full; False when there are none left, here or there."""
        while len(self._in_flight) < self._window:
            if self._again:
                self._send(self._again.popleft())
            elif (block := next(self._blocks, None)) is not None:
                self._send(_Attempt(block))
            else:
                break
        return bool(self._in_flight)

    def _send(self, attempt: _Attempt) -> None:
        client, context, block = self._cluster.client, self._context, attempt.block
        self._submitted += 1
        # The scheduler may serve other builds too, and takes equal keys for the same task.
        name = f"{self._cluster.run}-{block.index}-{self._submitted}"
        # attend_on asks for a GPU where there is one.
        refine_on = self._cluster.attend_on if refines_on_gpu(context.recipe.refine) else self._cluster.refine_on
        attend_on = refine_on if context.backbone is None else self._cluster.attend_on
        fork = self._writer.fork
        if attempt.isolated:
            future = client.submit(
                refine_isolated_and_write, block, context, fork, key=f"isolated-{name}", resources=attend_on, priority=2
            )
        else:
            batch = client.submit(attend, block, context, key=f"attend-{name}", resources=attend_on)
            # Before further attends, so that images do not pile up.
            future = client.submit(
                refine_and_write, batch, context, fork, key=f"refine-{name}", resources=refine_on, priority=1
            )
        self._in_flight[future.key] = attempt
        future.add_done_callback(self._landed.put)

    def _take_one(self) -> None:
        try:
            future = self._landed.get(timeout=CHECK_S)
        except queue.Empty:
            return
        attempt = self._in_flight.pop(future.key)
        try:
            fork, result = future.result(timeout=RESULT_S)
        except KilledWorker as error:
            self._again.append(self._after_death(attempt, error))
        except _TRANSIENT as error:
            if isinstance(error, TimeoutError) and future.status != "error":
                # Its worker has died with the result, and the block is made again: look at the cluster meanwhile.
                self._in_flight[future.key] = attempt
                self._landed.put(future)
                return
            self._again.append(self._after_failure(attempt, error))
        except CancelledError as error:
            self._cluster.check()  # raises where the scheduler is lost; else somebody has restarted or emptied it
            self._again.append(self._after_failure(attempt, error))
        else:
            self._merge(attempt, fork, result)

    def _merge(self, attempt: _Attempt, fork: ForkSession, result: BlockResult) -> None:
        with signals_held_back():
            with timed(self._counter.coordinator_s, "merge"):
                self._writer.merge(fork, result.index, result.columns)
            self._counter.add(
                result, int(attempt.block.new.sum()) if self._context.reuse == "rows" else len(attempt.block)
            )
        self._left -= 1
        counts = Counter(result.columns["status"].tolist())
        self._log.write(
            "block",
            block=result.index,
            worker=result.worker,
            seconds={stage: round(seconds, 4) for stage, seconds in result.seconds.items()},
            status={Status(code).label: count for code, count in sorted(counts.items())},
            isolated=attempt.isolated,
        )

    def _checkpoint(self) -> None:
        with signals_held_back():
            start = time.monotonic()
            with timed(self._counter.coordinator_s, "checkpoint"):
                wrote = self._writer.checkpoint()
            if not wrote:
                return
            done = int(self._writer.block_done.sum())
            self._log.write("checkpoint", seconds=round(time.monotonic() - start, 4), blocks_done=done)

    def _after_death(self, attempt: _Attempt, error: KilledWorker) -> _Attempt:
        """Dask blames every block that a dead worker had: each is looked at by itself."""
        self._log.write("fault", block=attempt.block.index, why=f"killed its worker {error.last_worker.address}")
        if not attempt.isolated:
            self._counter.say(f"{_name(attempt.block)} was on workers that died: now one image at a time")
            return replace(attempt, isolated=True)
        if attempt.deaths + 1 == TRIES:
            raise BuildError(
                f"{_name(attempt.block)} was on workers that died again and again, also one image at a time: too "
                "little memory (try fewer --workers), or workers that are being stopped; all other finished blocks are "
                "kept"
            )
        return replace(attempt, deaths=attempt.deaths + 1)

    def _after_failure(self, attempt: _Attempt, error: Exception) -> _Attempt:
        reason = one_reason(error)
        self._log.write("fault", block=attempt.block.index, why=reason)
        if attempt.failures + 1 == TRIES:
            raise BuildError(
                f"{_name(attempt.block)} failed {TRIES} times ({reason}); what is finished is kept, and the same "
                "command goes on from there"
            ) from error
        return replace(attempt, failures=attempt.failures + 1)


def one_reason(error: Exception) -> str:
    """The line of an error that says something: Icechunk draws trees."""
    return next(line for line in f"{error}\n{type(error).__name__}".splitlines() if line.strip(" x|")).strip(" x|")


def _name(block: Block) -> str:
    return f"Block {block.index} ({block.ids[0]} to {block.ids[-1]})"
