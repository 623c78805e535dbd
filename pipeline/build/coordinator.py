"""The coordinator of a build: sends blocks to workers, merges their results into the store, commits and publishes.

It keeps about two blocks a worker in flight and commits a checkpoint every few seconds. Its memory holds the catalog
and the small columns, however many blocks there are. A block that fails is tried again; one that kills workers is made
image by image (isolation.py). Merged blocks stay in the store whatever ends the build.
"""

import queue
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace

from dask.typing import Key
from distributed import Future, KilledWorker
from distributed.scheduler import NoValidWorkerError
from icechunk import ForkSession, IcechunkError

from ..errors import BuildError, LocLocError, StoreError, UnreachableError
from ..io.interrupts import raise_if_interrupted, signals_held_back
from ..io.timing import timed
from ..masks.grabcut import refines_on_gpu
from ..status import Status
from ..store.icechunk_errors import first_message
from ..store.versions import name_of_deleted
from ..store.writer import StoreWriter
from .block import Block, BlockResult, TaskContext
from .cluster import Cluster, check_cluster, open_cluster
from .decode import decode
from .event_log import EventLog, default_event_log
from .isolation import refine_isolated_and_write
from .needs_gpu import check_workers
from .progress import ProgressCounter
from .spec import BuildSpec, BuildSummary, OnProgress, RunSettings, precision_text
from .tasks import attend, attend_decoded, join_refine_and_write, refine_and_write
from .verification import SMALL_PARTS, intact_parts

BLOCKS_IN_FLIGHT = 2  # a worker: one running and one waiting, so that no worker idles while the coordinator commits
TRIES = 3  # of a block
POLL_S = 2.0  # between two checks of the cluster
RESULT_S = 10.0  # for a finished result to arrive

# May succeed at the next try. Where there are no workers for long, `Cluster.check` raises before the third try.
_TRANSIENT = (IcechunkError, NoValidWorkerError, OSError, StoreError, UnreachableError)


def make_version(spec: BuildSpec, writer: StoreWriter, run: RunSettings, on_progress: OnProgress) -> BuildSummary:
    """Begins or resumes the branch of a build, makes its unfinished blocks, and publishes the version.

    writer  entered by the caller, so that it holds the store's lock
    """
    if spec.name is not None:
        writer.check_name(spec.name)
    if not writer.has_begun(spec.metadata["build_id"]):
        check_cluster(run.cluster)
    with EventLog(run.log or default_event_log(spec.store, spec.metadata["build_id"])) as log:
        counter = ProgressCounter(on_progress)
        if log.trouble:
            counter.report(log.trouble)
        metadata = spec.metadata | {"name": spec.name}  # `masks resume` reads the name
        mask_px = spec.context.recipe.mask_px
        writer.begin(metadata, spec.catalog, spec.attention, mask_px, spec.shared, spec.kept_decisions)
        counter.begin(writer.status)
        counter.report("")  # nothing can refuse the build any more
        unfinished = int((writer.block_done == 0).sum())
        logged = ("build_id", "fingerprint", "operation", "parent", "recipe_name", "code_version", "packages", "host")
        log.write(
            "begin",
            store=str(spec.store),
            rows=len(spec.catalog),
            blocks=len(writer.block_done),
            blocks_to_do=unfinished,
            **{name: spec.metadata[name] for name in logged},
        )
        worker_s, intact = _make_blocks(spec, unfinished, writer, run, counter, log) if unfinished else (0.0, set())
        if not intact:
            counter.report("verifying")
        with timed(counter.coordinator_s, "verify"):
            writer.verify(intact)
        raise_if_interrupted()
        with signals_held_back(), timed(counter.coordinator_s, "publish"):
            version = writer.publish(spec.name)
        if spec.name is not None and spec.name != version:
            counter.report(f"note: {name_of_deleted(spec.name)}")
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
            left_out=spec.catalog.left_out,
        )


def _make_blocks(
    spec: BuildSpec, unfinished: int, writer: StoreWriter, run: RunSettings, counter: ProgressCounter, log: EventLog
) -> tuple[float, set[int]]:
    """Makes the unfinished blocks on a cluster. Returns workers x seconds, and the parts that workers found intact."""
    for note in _backbone_notes(spec):
        counter.report(note)
    kernels, start = spec.context.kernels, time.monotonic()
    with open_cluster(run.cluster, spec.context.backbone, unfinished, counter.report, kernels) as cluster:
        check_workers(spec.context, cluster)
        log.write("ready", seconds=round(time.monotonic() - start, 3), device=cluster.device, kernels=kernels)
        context = replace(
            spec.context,
            device=cluster.device,
            decode_threads=cluster.decode_threads,
            image_limit_s=run.image_limit_s,
        )
        counter.start()
        loop = BlockLoop(cluster, spec, context, writer, run.checkpoint_s, counter, log)
        loop.run()
        intact: set[int] = set()
        if len(parts := writer.parts()) >= SMALL_PARTS or not run.cluster.is_local:
            counter.report("verifying")
            with timed(counter.coordinator_s, "verify"):
                intact = intact_parts(parts, cluster)
            log.write("verified", parts=len(parts), intact=len(intact))
        return loop.worker_s, intact


def _backbone_notes(spec: BuildSpec) -> Iterator[str]:
    """Warnings about weights that give no useful masks, and what `auto` became."""
    backbone = spec.metadata["backbone"]
    if backbone["weights"] == "random":
        yield "note: with random weights the masks mean nothing"
    if backbone["weights"] == "bundled":
        yield (
            f"note: {backbone['name']} is a stand-in for trying things out; "
            "for real work give --backbone vit_small_patch16_224.dino"
        )
    if spec.context.backbone is not None and (why := spec.metadata.get("precision_why")):
        yield f"note: precision {precision_text(spec.context.backbone.precision, why)}"


@dataclass(frozen=True)
class _Attempt:
    """One try of a block."""

    block: Block
    failures: int = 0  # transient errors so far
    isolated: bool = False  # it has killed a worker, and is made image by image now
    deaths: int = 0  # of workers, while it was isolated

    @property
    def number(self) -> int:
        """1 for the first try."""
        return 1 + self.failures + self.isolated + self.deaths


class BlockLoop:
    """Runs the unfinished blocks of a build on a cluster, and retries those that fail."""

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
        self._maps, self._blocks = spec.maps, spec.unfinished_blocks(writer.block_done)
        self._blocks_left = int((writer.block_done == 0).sum())
        self._retries: deque[_Attempt] = deque()
        self._in_flight: dict[Key, _Attempt] = {}
        self._done_futures: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._submit_count = 0
        self.worker_s = 0.0

    def run(self) -> None:
        """Makes all blocks. Raises BuildError; after any error, and after Ctrl-C, the finished blocks are committed."""
        self._counted_at = time.monotonic()
        self._poll_cluster()
        checkpoint_at = time.monotonic() + self._checkpoint_s
        try:
            while self._fill_window():
                self._handle_result()
                raise_if_interrupted()
                if time.monotonic() >= self._poll_at:
                    self._poll_cluster()
                if time.monotonic() >= checkpoint_at:
                    self._checkpoint()
                    checkpoint_at = time.monotonic() + self._checkpoint_s
        except BaseException as error:
            try:
                self._checkpoint()
            except StoreError as second:  # most likely with the same cause
                error.add_note(f"the last finished blocks could not be committed: {second}")
            if isinstance(error, Exception) and not isinstance(error, LocLocError):
                self._cluster.check()  # a lost scheduler causes errors of many types: raise BuildError
            raise
        self._checkpoint()
        self._count_worker_time()

    def _poll_cluster(self) -> None:
        """Checks the cluster, requests workers for the blocks left, and adjusts the window to the number of workers."""
        workers = self._cluster.check()
        self._cluster.scale(self._blocks_left)
        self._count_worker_time()
        if workers != self._counter.workers:
            self._log.write("workers", workers=workers)
        self._counter.workers, self._poll_at = workers, self._counted_at + POLL_S
        self._window = BLOCKS_IN_FLIGHT * max(1, workers)

    def _count_worker_time(self) -> None:
        """Adds workers x seconds since the last call."""
        now = time.monotonic()
        self.worker_s += (self._counter.workers or 0) * (now - self._counted_at)
        self._counted_at = now

    def _fill_window(self) -> bool:
        """Submits blocks until the window is full. False when no block is left or in flight."""
        while len(self._in_flight) < self._window:
            if self._retries:
                self._submit(self._retries.popleft())
            elif (block := next(self._blocks, None)) is not None:
                self._submit(_Attempt(block))
            else:
                break
        return bool(self._in_flight)

    def _submit(self, attempt: _Attempt) -> None:
        client, context, block = self._cluster.client, self._context, attempt.block
        self._submit_count += 1
        # The scheduler may serve other builds too, and would treat equal keys as the same task.
        name = f"{self._cluster.run}-{block.index}-{self._submit_count}"
        attend_on, refine_on = self._cluster.attend_on, self._cluster.refine_on
        cuts_there = refines_on_gpu(context.recipe.refine)
        if context.backbone is None and not cuts_there and not context.decodes_on_gpu:
            attend_on = refine_on  # there is nothing for a GPU to do
        fork = self._writer.fork
        if attempt.isolated:
            future = client.submit(
                refine_isolated_and_write, block, context, fork, key=f"isolated-{name}", resources=attend_on, priority=2
            )
        # What refines runs before further blocks begin, so that decoded images do not fill the memory.
        elif attend_on == refine_on:
            batch = client.submit(attend, block, context, key=f"attend-{name}", resources=attend_on)
            future = client.submit(
                refine_and_write, batch, context, fork, key=f"refine-{name}", resources=refine_on, priority=1
            )
        else:  # a GPU worker, which waits for nothing but its device
            alone = replace(context, decode_threads=1)  # there is a worker for each core
            decoded = client.submit(decode, block, alone, key=f"decode-{name}", resources=refine_on)
            attended = client.submit(
                attend_decoded, decoded, context, key=f"attend-{name}", resources=attend_on, priority=1
            )
            future = client.submit(
                join_refine_and_write, decoded, attended, context, fork, key=f"refine-{name}", resources=refine_on,
                priority=2,
            )  # fmt: skip
        self._in_flight[future.key] = attempt
        future.add_done_callback(self._done_futures.put)

    def _handle_result(self) -> None:
        """Waits for the next finished block, then merges it or schedules another try."""
        try:
            future = self._done_futures.get(timeout=POLL_S)
        except queue.Empty:
            return
        attempt = self._in_flight.pop(future.key)
        try:
            fork, result = future.result(timeout=RESULT_S)
        except KilledWorker as error:
            self._retries.append(self._retry_isolated(attempt, error))
        except _TRANSIENT as error:
            if isinstance(error, TimeoutError) and future.status != "error":
                # Its worker died with the result, so Dask makes the block again. Check the cluster meanwhile.
                self._in_flight[future.key] = attempt
                self._done_futures.put(future)
                return
            self._retries.append(self._retry(attempt, error))
        except CancelledError as error:
            self._cluster.check()  # raises where the scheduler is lost; else it was restarted
            self._retries.append(self._retry(attempt, error))
        else:
            self._merge(attempt, fork, result)

    def _merge(self, attempt: _Attempt, fork: ForkSession, result: BlockResult) -> None:
        block = attempt.block
        if self._maps is not None:
            new = block.new
            result.columns["seen"][new] = self._maps.codes(result.columns["input_digest"][new])
        with signals_held_back():
            with timed(self._counter.coordinator_s, "merge"):
                self._writer.merge(fork, result.index, result.columns)
            self._counter.add(result, int(block.new.sum()) if self._context.reuse == "rows" else len(block))
        self._blocks_left -= 1
        counts = Counter(result.columns["status"].tolist())
        self._log.write(
            "block",
            block=result.index,
            worker=result.worker,
            seconds={stage: round(seconds, 4) for stage, seconds in result.seconds.items()},
            status={Status(code).label: count for code, count in sorted(counts.items())},
            isolated=attempt.isolated,
            attempt=attempt.number,
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

    def _retry_isolated(self, attempt: _Attempt, error: KilledWorker) -> _Attempt:
        """The next try of a block that was on a dead worker, by itself: Dask blames all blocks of that worker."""
        self._log.write("fault", block=attempt.block.index, why=f"killed its worker {error.last_worker.address}")
        if not attempt.isolated:
            self._counter.report(f"{_block_name(attempt.block)} was on workers that died: now one image at a time")
            return replace(attempt, isolated=True)
        if attempt.deaths + 1 == TRIES:
            raise BuildError(
                f"{_block_name(attempt.block)} was on workers that died again and again, also one image at a time: too "
                "little memory (try fewer --workers), or workers that are being stopped; all other finished blocks are "
                "kept"
            )
        return replace(attempt, deaths=attempt.deaths + 1)

    def _retry(self, attempt: _Attempt, error: Exception) -> _Attempt:
        """The next try of a block after a transient error. Raises BuildError after TRIES."""
        reason = first_message(error)
        self._log.write("fault", block=attempt.block.index, why=reason)
        if attempt.failures + 1 == TRIES:
            raise BuildError(
                f"{_block_name(attempt.block)} failed {TRIES} times ({reason}); what is finished is kept, and the same "
                "command resumes from there"
            ) from error
        return replace(attempt, failures=attempt.failures + 1)


def _block_name(block: Block) -> str:
    return f"Block {block.index} ({block.ids[0]} to {block.ids[-1]})"
