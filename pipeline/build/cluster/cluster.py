"""The cluster of a build: prepares workers, assigns resources to tasks, and detects lost workers and schedulers."""

import asyncio
import logging
import secrets
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from distributed import Client
from distributed.protocol.pickle import dumps, loads

from ...errors import BuildError
from .worker_plugin import (
    CHECKED_PACKAGES,
    PrepareWorker,
    UnregisterRun,
    checked_versions,
    difference,
    installed_versions,
)

if TYPE_CHECKING:
    from ...backbones.spec import BackboneSpec

NO_WORKERS_S = 300.0  # longer than a nanny needs to restart a worker and import torch on a busy machine
CLOCK_SET_BACK_S = 10.0  # Dask's own waits for the clock are milliseconds
REPLY_S = 15.0  # for a reply of the scheduler or a worker; one that is importing torch does not reply meanwhile
CONTACT_TRIES = 3
PREPARE_S = 300.0  # hundreds of workers may read the same weights from one file server

OnMessage = Callable[[str], None]


def silence_dask() -> None:
    """Turns off Dask's logs: errors that matter are raised as BuildError."""
    warnings.filterwarnings("ignore", "Creating scratch directories", UserWarning)  # a busy machine, no error
    for name in ("distributed", "distributed.client"):  # Dask gives the second one a level of its own
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # With the scheduler in this process, asyncio and Tornado print the traceback of each of its messages to workers
    # that are gone: Dask waits for the first error of a broadcast, and drops the others.
    for name in ("asyncio", "tornado.application"):
        logging.getLogger(name).addFilter(_is_no_lost_connection)


def _is_no_lost_connection(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, OSError | asyncio.CancelledError)  # OSError: Dask's CommClosedError, TimeoutError


@dataclass(frozen=True)
class Cluster:
    """The workers of one build; made by `open_cluster`.

    Tasks ask for the resources `attend_on` or `refine_on`. Their keys contain `run`: a scheduler that serves two builds
    would treat equal keys as the same task.
    """

    client: Client
    device: str  # "cuda" where attend runs on GPU workers, else "cpu"
    decode_threads: int  # of a GPU worker, which decodes while its device computes; 1 on CPU workers
    attend_on: dict[str, float]
    refine_on: dict[str, float]
    address: str  # of the scheduler, for messages
    dashboard: str | None
    run: str  # unique; also the resource of the workers that were admitted
    on_message: OnMessage
    adjust_jobs: Callable[[int, set[str]], None]  # with the blocks left and the names of workers that were ever ready
    queued: bool  # workers wait in a batch queue, so a time without workers is no error
    _connection: object  # to the scheduler, when the build began
    _refusals: deque[dict[str, str]] = field(default_factory=deque)  # appended by Dask's thread
    _ready: set[str] = field(default_factory=set)  # names; added to by Dask's thread
    _last_seen: dict[str, float] = field(default_factory=dict)  # monotonic time, by "scheduler" and task

    def lost(self) -> bool:
        """True once the connection to the scheduler has broken.

        All futures are cancelled then; a client that reconnects does not get them back.
        """
        return self.client.status != "running" or self.client.scheduler_comm is not self._connection

    def scale(self, blocks_left: int) -> None:
        """Adjusts the number of SLURM jobs; call it every few seconds from the build's own thread."""
        self.adjust_jobs(blocks_left, set(self._ready))

    def heard(self, event: dict[str, str]) -> None:
        """What a worker says of its preparation (worker_plugin.py)."""
        if "ready" in event:
            self._ready.add(event["ready"])
        else:
            self._refusals.append(event)

    def check(self) -> int:
        """Reports refused workers, and returns how many workers are admitted now; 0 where the scheduler does not reply.

        Call it every few seconds from the build's own thread. Raises BuildError where the scheduler is lost, where it
        has not replied for NO_WORKERS_S, or where for that long no worker could run one of the two tasks: such tasks
        would wait for ever.
        """
        self._send_what_waits_for_another_clock()
        while self._refusals:
            refusal = self._refusals.popleft()
            self.on_message(f"{refusal['refused']} was refused: it {refusal['why']}")
        workers = self._workers()
        if self.lost() or self._absent_s("scheduler", workers is not None) > NO_WORKERS_S:
            raise BuildError(_lost(self.address))
        for task, needs in (("attend", self.attend_on), ("refine", self.refine_on)):
            available = workers is None or any(_can_run(worker, needs) for worker in workers)
            if self._absent_s(task, available) > NO_WORKERS_S and not self.queued:
                kind = "GPU" if "GPU" in needs else "CPU"
                raise BuildError(
                    f"No {kind} worker of this build has been at {self.address} for {NO_WORKERS_S:.0f} s; what is "
                    "finished is kept: start workers and run the same command"
                )
        return sum(self.run in worker["resources"] for worker in workers or ())

    def _send_what_waits_for_another_clock(self) -> None:
        """Dask waits for a time of the wall clock before it sends: for hours, where that was set back.

        That is mended in this process: for the client, and for the scheduler of a build on this machine.
        """
        streams: list[Any] = [self.client.scheduler_comm]  # of the type BatchedSend; None where the scheduler is lost
        if (scheduler := getattr(self.client.cluster, "scheduler", None)) is not None:
            streams += [*scheduler.stream_comms.copy().values(), *scheduler.client_comms.copy().values()]
        latest = time.time() + CLOCK_SET_BACK_S
        for stream in streams:
            if (deadline := getattr(stream, "next_deadline", None)) is not None and deadline > latest:
                stream.next_deadline = time.time()
                stream.loop.add_callback(stream.waker.set)

    def _absent_s(self, what: str, available: bool) -> float:
        """Seconds since `what` was last available, or since the first call for it."""
        now = time.monotonic()
        if available:
            self._last_seen[what] = now
        return now - self._last_seen.setdefault(what, now)

    def _workers(self) -> list[dict[str, Any]] | None:
        """The scheduler's records of its workers, or None where it does not reply."""
        if self.lost():
            return None
        try:
            return list(_identities(self.client).values())
        except Exception as error:  # of any type, where the connection broke after `lost` was checked
            if isinstance(error, OSError) or self.lost():
                return None
            raise


@contextmanager
def running_cluster(
    client: Client,
    backbone: "BackboneSpec | None",
    kernels: tuple[str, ...],
    on_message: OnMessage,
    address: str,
    dashboard: str | None = None,
    decode_threads: Callable[[], int] = lambda: 1,
    adjust_jobs: Callable[[int, set[str]], None] = lambda blocks_left, ready: None,
    queued: bool = False,
    shares_terminal: bool = False,
) -> Iterator[Cluster]:
    """Compares versions, prepares present and later workers for one build, and unregisters the build at the end.

    `decode_threads` is called where there are GPU workers. Raises BuildError with a worker's name and the reason where
    one cannot be used.
    """
    run = f"locloc-{secrets.token_hex(4)}"
    with loss_as_error(client, address):
        _check_versions(client, address)
        device, attend, refine = _task_resources(_identities(client).values())
        threads = decode_threads() if device == "cuda" else 1
    cluster = Cluster(
        client,
        device,
        threads,
        {attend: 1, run: 1},
        {refine: 1, run: 1},
        address,
        dashboard,
        run,
        on_message,
        adjust_jobs,
        queued,
        client.scheduler_comm,
    )
    try:
        with loss_as_error(client, address):
            client.register_plugin(UnregisterRun(run, client.id), name=run)
            client.subscribe_topic(run, lambda event: cluster.heard(event[1]))
            plugin = PrepareWorker(backbone, device, run, shares_terminal=shares_terminal, kernels=kernels)
            _prepare_workers(client, plugin, address)
        on_message(_summary(cluster))
        yield cluster
    finally:
        if not cluster.lost():
            with suppress(OSError, ValueError):  # ValueError: the scheduler forgot it already
                _call_scheduler(client, "unregister_worker_plugin", REPLY_S, name=run)


@contextmanager
def loss_as_error(client: Client, address: str) -> Iterator[None]:
    """Turns a scheduler that is lost before the build has begun into a BuildError."""
    try:
        yield
    except BuildError:
        raise
    except Exception as error:  # Dask raises many types
        if isinstance(error, OSError) or client.status != "running":
            raise BuildError(_lost(address)) from error
        raise


def _lost(address: str) -> str:
    return f"The scheduler at {address} was lost; what is finished is kept: start it again and run the same command"


def _summary(cluster: Cluster) -> str:
    """`"4 workers at tcp://10.0.0.1:8786, 1 of them with a GPU; dashboard at http://..."`."""
    workers = [worker for worker in cluster._workers() or () if cluster.run in worker["resources"]]
    if cluster.queued and not workers:  # its job ended while it loaded the backbone
        return f"the first workers at {cluster.address} are gone again; waiting for others"
    gpus = sum("GPU" in worker["resources"] for worker in workers)
    with_gpus = f", {gpus} of them with a GPU" if gpus else ""
    dashboard = f"; dashboard at {cluster.dashboard}" if cluster.dashboard else ""
    return f"{len(workers)} worker{'s' * (len(workers) != 1)} at {cluster.address}{with_gpus}{dashboard}"


def _check_versions(client: Client, address: str) -> None:
    """Raises BuildError with the name of the first process whose packages differ from those of this one."""
    ours = installed_versions()
    query = {"packages": list(CHECKED_PACKAGES)}
    for tries_left in reversed(range(CONTACT_TRIES)):  # a worker does not reply while it imports torch
        try:
            scheduler = _call_scheduler(client, "versions", REPLY_S, **query)
            workers = _call_scheduler(client, "broadcast", REPLY_S, msg={"op": "versions", **query}, on_error="ignore")
            break
        except OSError:
            if client.status != "running":
                raise
            if not tries_left:
                raise BuildError(
                    f"A worker at {address} does not answer within {CONTACT_TRIES * REPLY_S:.0f} s; end it, or "
                    "wait until it has started"
                ) from None
    theirs = checked_versions(scheduler["packages"])
    unpickling = ("python", "locloc")  # a scheduler unpickles tasks and runs none, so its torch does not matter
    if any(theirs[name] != ours[name] for name in unpickling):
        differs = difference({name: theirs[name] for name in unpickling}, {name: ours[name] for name in unpickling})
        raise BuildError(f"The scheduler at {address} {differs}; start it in the coordinator's environment")
    records = _identities(client)
    reasons = {
        worker: differs
        for worker, answer in workers.items()
        if (differs := difference(checked_versions(answer["packages"]), ours)) is not None
    }
    _raise_refusal(reasons, records, "start workers in the coordinator's environment")


def _prepare_workers(client: Client, plugin: PrepareWorker, address: str) -> None:
    """Prepares the present workers, and registers the plugin for later ones."""
    for _ in range(CONTACT_TRIES):
        try:
            answers = _call_scheduler(
                client, "register_worker_plugin", PREPARE_S, plugin=dumps(plugin), name=plugin.name, idempotent=False
            )
        except TimeoutError:
            raise BuildError(
                f"Workers at {address} did not load the backbone and the engine within {PREPARE_S:.0f} s; "
                "try again, or give a weights file that they can read faster"
            ) from None
        except OSError:
            time.sleep(0.2)  # gives the client time to notice that it was the scheduler that was lost
            if client.status != "running":
                raise BuildError(_lost(address)) from None
            continue  # a worker was lost between the request and its reply
        reasons = {
            worker: str(loads(answer["exception"])) for worker, answer in answers.items() if answer["status"] == "error"
        }
        _raise_refusal(reasons, _identities(client), "fix that, or end that worker")
        return
    raise BuildError(f"Workers at {address} die while they load the backbone; try fewer, or give them more memory")


def _raise_refusal(reasons: dict[str, str], records: dict[str, dict[str, Any]], remedy: str) -> None:
    """Raises BuildError for the first of the refused workers, if any."""
    if not reasons:
        return
    worker, reason = next(iter(reasons.items()))
    more = f" ({len(reasons) - 1} more are refused too)" if len(reasons) > 1 else ""
    raise BuildError(f"Worker {records.get(worker, {}).get('name', worker)} at {worker}: {reason}{more}; {remedy}")


def _identities(client: Client) -> dict[str, dict[str, Any]]:
    """The scheduler's records of its workers, by address. Raises OSError, including TimeoutError."""
    return _call_scheduler(client, "identity", REPLY_S, n_workers=-1)["workers"]


def _call_scheduler(client: Client, operation: str, timeout_s: float, **arguments: Any) -> Any:
    """The reply of a remote procedure of the scheduler. Raises TimeoutError after `timeout_s`."""
    return client.sync(getattr(client.scheduler, operation), callback_timeout=timeout_s, **arguments)


def _task_resources(workers: Iterable[dict[str, Any]]) -> tuple[str, str, str]:
    """(device, resource of attend, resource of refine), from the resources that the first workers declare.

    attend runs on GPU workers where there are any; refine on CPU workers, or on GPU workers where there are no others.
    """
    with_gpu = [worker for worker in workers if "GPU" in worker["resources"]]
    with_cpu = [worker for worker in workers if "CPU" in worker["resources"] or "GPU" not in worker["resources"]]
    if not with_gpu:
        return "cpu", "CPU", "CPU"
    return "cuda", "GPU", "CPU" if with_cpu else "GPU"


def _can_run(worker: dict[str, Any], needs: dict[str, float]) -> bool:
    """A paused worker counts as unable: it has no memory left, and may never resume."""
    resources = worker["resources"]
    return worker["status"] == "running" and all(resources.get(name, 0) >= amount for name, amount in needs.items())
