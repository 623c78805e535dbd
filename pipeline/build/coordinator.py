"""Makes a version: blocks to workers, what they made to the store. The coordinator's side of every build.

It keeps a window of about two blocks a worker in flight, merges what comes back, and commits a checkpoint every few
seconds. Its memory is the catalog and the small columns, however many blocks there are. Whatever fails, the store keeps
what was merged: a block that fails is tried again; one that kills workers is done picture by picture (careful.py).
"""

import queue
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, replace

from distributed import Future, KilledWorker
from distributed.scheduler import NoValidWorkerError
from icechunk import ForkSession, IcechunkError

from .tasks import Block, BlockResult, Job, attend, refine_and_write
from .isolation import refine_and_write_carefully
from .cluster import Cluster, open_cluster
from ..errors import BuildError, LocLocError, StoreError, UnreachableError
from .plan import Plan, make_plan
from .progress import Tally
from ..masks.grabcut import kernels_of, refines_on_gpu
from .event_log import RunLog, default_log
from ..io.interrupts import raise_if_interrupted, signals_held_back
from ..status import Status
from ..store.writer import StoreWriter
from .spec import BuildSummary, OnProgress, RunSettings, Work

BLOCKS_IN_FLIGHT = 2  # a worker: one at work and one waiting, so that none is idle while the coordinator commits
TRIES = 3
CHECK_S = 2.0  # between looks at the cluster
RESULT_S = 10.0  # for a result that is there to arrive

# May have gone by the next try; where there are no workers for long, the cluster's check says so before the third.
_PASSING = (IcechunkError, NoValidWorkerError, OSError, StoreError, UnreachableError)


def make_version(work: Work, writer: StoreWriter, run: RunSettings, on_progress: OnProgress) -> BuildSummary:
    """Begins or goes on with the work's branch, does what is left, and publishes. The writer has been entered."""
    if work.name is not None:
        writer.check_name(work.name)
    with RunLog(run.log or default_log(work.store, work.about["build_id"])) as log:
        tally = Tally(on_progress)
        if log.trouble:
            tally.say(log.trouble)
        about = work.about | {"name": work.name}  # kept for `masks resume`
        writer.begin(about, work.catalog, work.heads, work.grid, work.recipe.mask_px, work.shared)
        tally.begin(writer.status)
        plan = make_plan(work.catalog, writer.block_done, work.kept)
        facts = ("build_id", "fingerprint", "operation", "parent", "recipe_name", "code_version", "packages", "host")
        log.write(
            "begin",
            store=str(work.store),
            rows=len(work.catalog),
            blocks=len(writer.block_done),
            blocks_to_do=len(plan.todo),
            **{name: work.about[name] for name in facts},
        )
        worker_s = _on_cluster(work, plan, writer, run, tally, log) if len(plan.todo) else 0.0
        tally.say("verifying")
        with _timed(tally, "verify"):
            writer.verify()
        raise_if_interrupted()
        with signals_held_back(), _timed(tally, "publish"):
            version = writer.publish(work.name)
        if work.name not in (None, version):
            tally.say(f"note: {work.name} is the name of a deleted version, which cannot be used again")
        log.write("end", version=version, counts=writer.counts, coordinator_s=dict(tally.coordinator_s))
        return BuildSummary(
            version,
            work.fingerprint,
            writer.counts,
            new_rows=tally.new_rows,
            images_per_s=tally.images_per_s,
            stage_s=dict(tally.stage_s),
            worker_s=worker_s,
            coordinator_s=dict(tally.coordinator_s),
            log=str(log.file) if log.file else None,
        )


def _on_cluster(work: Work, plan: Plan, writer: StoreWriter, run: RunSettings, tally: Tally, log: RunLog) -> float:
    """Runs the plan; returns the worker seconds that were there to be used."""
    if (caution := _caution(work)) is not None:
        tally.say(caution)
    kernels, began = kernels_of(work.recipe.refine), time.monotonic()
    with open_cluster(run.cluster, work.backbone, len(plan.todo), tally.say, kernels) as cluster:
        log.write("ready", seconds=round(time.monotonic() - began, 3), device=cluster.device, kernels=kernels)
        job = Job(
            work.catalog.root,
            work.recipe,
            work.backbone,
            cluster.device,
            cluster.decode_threads,
            run.image_limit_s,
            work.parent,
            work.reuse,
        )
        tally.start()
        blocks = Blocks(cluster, plan, job, writer, run.checkpoint_s, tally, log)
        blocks.run()
        return blocks.worker_s


def _caution(work: Work) -> str | None:
    weights = work.about["backbone"]["weights"]
    if weights == "random":
        return "note: with random weights the masks mean nothing"
    if weights == "bundled":
        return (
            f"note: {work.about['backbone']['name']} is a stand-in for trying things out; "
            "for real work give --backbone vit_small_patch16_224.dino"
        )
    return None


@dataclass(frozen=True)
class _Try:
    """A block in flight."""

    block: Block
    failures: int = 0  # by exceptions that may pass
    careful: bool = False  # it has killed workers, and is done picture by picture
    deaths: int = 0  # of workers, while it was careful


class Blocks:
    """The blocks of a plan in flight through a cluster, and what becomes of each."""

    def __init__(
        self,
        cluster: Cluster,
        plan: Plan,
        job: Job,
        writer: StoreWriter,
        checkpoint_s: float,
        tally: Tally,
        log: RunLog,
    ):
        self._cluster, self._plan, self._job, self._writer = cluster, plan, job, writer
        self._checkpoint_s, self._tally, self._log = checkpoint_s, tally, log
        self._blocks, self._left = plan.blocks(), len(plan.todo)
        self._again: deque[_Try] = deque()
        self._flying: dict[str, _Try] = {}
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
        if workers != self._tally.workers:
            self._log.write("workers", workers=workers)
        self._tally.workers, self._look_at = workers, self._looked_at + CHECK_S
        self._window = BLOCKS_IN_FLIGHT * max(1, workers)

    def _count_time(self) -> None:
        now = time.monotonic()
        self.worker_s += (self._tally.workers or 0) * (now - self._looked_at)
        self._looked_at = now

    def _fill(self) -> bool:
        """Sends blocks out until the window is full; False when there are none left, here or there."""
        while len(self._flying) < self._window:
            if self._again:
                self._send(self._again.popleft())
            elif (block := next(self._blocks, None)) is not None:
                self._send(_Try(block))
            else:
                break
        return bool(self._flying)

    def _send(self, attempt: _Try) -> None:
        client, job, block = self._cluster.client, self._job, attempt.block
        self._submitted += 1
        # The scheduler may serve other builds too, and takes equal keys for the same task.
        name = f"{self._cluster.run}-{block.index}-{self._submitted}"
        # attend_on asks for a GPU where there is one.
        refine_on = self._cluster.attend_on if refines_on_gpu(job.recipe.refine) else self._cluster.refine_on
        attend_on = refine_on if job.backbone is None else self._cluster.attend_on
        fork = self._writer.fork
        if attempt.careful:
            future = client.submit(
                refine_and_write_carefully, block, job, fork, key=f"carefully-{name}", resources=attend_on, priority=2
            )
        else:
            attended = client.submit(attend, block, job, key=f"attend-{name}", resources=attend_on)
            # Before further attends, so that pictures do not pile up.
            future = client.submit(
                refine_and_write, attended, job, fork, key=f"refine-{name}", resources=refine_on, priority=1
            )
        self._flying[future.key] = attempt
        future.add_done_callback(self._landed.put)

    def _take_one(self) -> None:
        try:
            future = self._landed.get(timeout=CHECK_S)
        except queue.Empty:
            return
        attempt = self._flying.pop(future.key)
        try:
            fork, result = future.result(timeout=RESULT_S)
        except KilledWorker as error:
            self._again.append(self._after_death(attempt, error))
        except _PASSING as error:
            if isinstance(error, TimeoutError) and future.status != "error":
                # Its worker has died with the result, and the block is made again: look at the cluster meanwhile.
                self._flying[future.key] = attempt
                self._landed.put(future)
                return
            self._again.append(self._after_failure(attempt, error))
        except CancelledError as error:
            self._cluster.check()  # raises where the scheduler is lost; else somebody has restarted or emptied it
            self._again.append(self._after_failure(attempt, error))
        else:
            self._merge(attempt, fork, result)

    def _merge(self, attempt: _Try, fork: ForkSession, result: BlockResult) -> None:
        with signals_held_back():
            with _timed(self._tally, "merge"):
                self._writer.merge(fork, result.index, result.columns)
            self._tally.add(result, int(attempt.block.todo.sum()) if self._job.reuse == "rows" else len(attempt.block))
        self._left -= 1
        counts = Counter(result.columns["status"].tolist())
        self._log.write(
            "block",
            block=result.index,
            worker=result.worker,
            seconds={stage: round(seconds, 4) for stage, seconds in result.seconds.items()},
            status={Status(code).label: count for code, count in sorted(counts.items())},
            carefully=attempt.careful,
        )

    def _checkpoint(self) -> None:
        with signals_held_back():
            start = time.monotonic()
            with _timed(self._tally, "checkpoint"):
                wrote = self._writer.checkpoint()
            if not wrote:
                return
            done = int(self._writer.block_done.sum())
            self._log.write("checkpoint", seconds=round(time.monotonic() - start, 4), blocks_done=done)

    def _after_death(self, attempt: _Try, error: KilledWorker) -> _Try:
        """Dask blames every block that a dead worker had: each is looked at by itself."""
        self._log.write("fault", block=attempt.block.index, why=f"killed its worker {error.last_worker.address}")
        if not attempt.careful:
            self._tally.say(f"{_name(attempt.block)} was on workers that died: now one picture at a time")
            return replace(attempt, careful=True)
        if attempt.deaths + 1 == TRIES:
            raise BuildError(
                f"{_name(attempt.block)} was on workers that died again and again, also one picture at a time: too "
                "little memory (try fewer --workers), or workers that are being stopped; all other finished blocks are "
                "kept"
            )
        return replace(attempt, deaths=attempt.deaths + 1)

    def _after_failure(self, attempt: _Try, error: Exception) -> _Try:
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


@contextmanager
def _timed(tally: Tally, stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        tally.coordinator_s[stage] += time.perf_counter() - start
