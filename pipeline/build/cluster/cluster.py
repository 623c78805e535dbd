"""A cluster that a build runs on: who may work, what each kind of task asks for, and whether it is still there."""

import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from distributed import Client
from distributed.protocol.pickle import dumps, loads

from ...errors import BuildError
from .worker_plugin import CHECKED_PACKAGES, ForgetRun, PrepareWorker, checked_versions, difference, installed_versions

if TYPE_CHECKING:
    from ...backbones.spec import BackboneSpec

NO_WORKERS_S = 300.0  # a nanny restarts a worker, torch's imports and all, in less, on a busy machine too
ASK_S = 15.0  # for what a scheduler and its workers answer at once, unless they are just importing torch
ADMIT_TRIES = 3
PREPARE_S = 300.0  # for hundreds of workers to read the same weights from one file server

Say = Callable[[str], None]


def silence_dask() -> None:
    """Its logs: whatever matters becomes an error's line."""
    for name in ("distributed", "distributed.client"):  # Dask gives the second one a level of its own
        logging.getLogger(name).setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Cluster:
    """Made by `open_cluster`. Tasks ask for `attend_on` or `refine_on`, and carry `run` in their keys: a scheduler that
    serves two builds takes equal keys for the same task."""

    client: Client
    device: str  # "cuda" where attend runs on GPU workers, else "cpu"
    decode_threads: int  # of a GPU worker, which decodes ahead of its device; 1 on CPU workers
    attend_on: dict[str, float]
    refine_on: dict[str, float]
    address: str  # for messages
    dashboard: str | None
    run: str  # unique; also the resource that admitted workers have
    say: Say
    want: Callable[[int], None]  # to be called every few seconds with the blocks left: SLURM jobs follow it
    queued: bool  # workers come when a queue lets them, however long that takes
    _connection: object  # at the start
    _refusals: deque = field(default_factory=deque)  # written by Dask's thread
    _seen_at: dict[str, float] = field(default_factory=dict)  # monotonic, of the scheduler and each kind of worker

    def lost(self) -> bool:
        """True from the moment the connection to the scheduler broke.

        All futures are cancelled then, for good: a client that finds a scheduler at the address again begins with none.
        """
        return self.client.status != "running" or self.client.scheduler_comm is not self._connection

    def check(self) -> int:
        """To be called every few seconds from the build's own thread: says which workers were refused.

        Returns how many may work on this build now; 0 where the scheduler does not answer just now.
        Raises BuildError where the scheduler is lost, or where for NO_WORKERS_S it has not answered, or no worker could
        have run a kind of task that the build needs: their tasks would wait for ever.
        """
        while self._refusals:
            refusal = self._refusals.popleft()
            self.say(f"{refusal['refused']} was refused: it {refusal['why']}")
        members = self._members()
        if self.lost() or self._gone_for("scheduler", members is not None) > NO_WORKERS_S:
            raise BuildError(_lost(self.address))
        for task, needs in (("attend", self.attend_on), ("refine", self.refine_on)):
            there = members is None or any(_can_run(worker, needs) for worker in members)
            if self._gone_for(task, there) > NO_WORKERS_S and not self.queued:
                kind = "GPU" if "GPU" in needs else "CPU"
                raise BuildError(
                    f"No {kind} worker of this build has been at {self.address} for {NO_WORKERS_S:.0f} s; what is "
                    "finished is kept: start workers and run the same command"
                )
        return sum(self.run in worker["resources"] for worker in members or ())

    def _gone_for(self, what: str, there: bool) -> float:
        """Seconds since `what` was last there, or since it was first asked for."""
        now = time.monotonic()
        if there:
            self._seen_at[what] = now
        return now - self._seen_at.setdefault(what, now)

    def _members(self) -> list[dict] | None:
        """The workers as the scheduler knows them, or None where it does not answer."""
        if self.lost():
            return None
        try:
            return list(_identities(self.client).values())
        except Exception as error:  # of any kind, where the connection broke between the two lines above
            if isinstance(error, OSError) or self.lost():
                return None
            raise


@contextmanager
def running_cluster(
    client: Client,
    backbone: "BackboneSpec | None",
    kernels: tuple[str, ...],
    say: Say,
    address: str,
    dashboard: str | None = None,
    decode_threads: Callable[[], int] = lambda: 1,
    want: Callable[[int], None] = lambda blocks_left: None,
    queued: bool = False,
    on_our_terminal: bool = False,
) -> Iterator[Cluster]:
    """Compares versions, lets the workers in that are there and those that come later, and takes it back at the end.

    `decode_threads` is asked for where there are GPU workers. Raises BuildError with the worker's name and the reason
    for one that cannot be used.
    """
    run = f"locloc-{secrets.token_hex(4)}"
    with loss_as_error(client, address):
        _check_versions(client, address)
        device, attend, refine = _kinds(_identities(client).values())
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
        say,
        want,
        queued,
        client.scheduler_comm,
    )
    try:
        with loss_as_error(client, address):
            client.register_plugin(ForgetRun(run, client.id), name=run)
            client.subscribe_topic(run, lambda event: cluster._refusals.append(event[1]))
            plugin = PrepareWorker(backbone, device, run, on_our_terminal=on_our_terminal, kernels=kernels)
            _admit(client, plugin, address)
        say(_what_works(cluster))
        yield cluster
    finally:
        if not cluster.lost():
            with suppress(OSError, ValueError):  # ValueError: the scheduler forgot it already
                client.sync(client.scheduler.unregister_worker_plugin, name=run, callback_timeout=ASK_S)


@contextmanager
def loss_as_error(client: Client, address: str) -> Iterator[None]:
    """Around what is asked of a scheduler before a build has begun: one that goes meanwhile is one line."""
    try:
        yield
    except BuildError:
        raise
    except Exception as error:  # of many kinds
        if isinstance(error, OSError) or client.status != "running":
            raise BuildError(_lost(address)) from error
        raise


def _lost(address: str) -> str:
    return f"The scheduler at {address} was lost; what is finished is kept: start it again and run the same command"


def _what_works(cluster: Cluster) -> str:
    members = [worker for worker in cluster._members() or () if cluster.run in worker["resources"]]
    gpus = sum("GPU" in worker["resources"] for worker in members)
    with_gpus = f", {gpus} of them with a GPU" if gpus else ""
    dashboard = f"; dashboard at {cluster.dashboard}" if cluster.dashboard else ""
    return f"{len(members)} workers at {cluster.address}{with_gpus}{dashboard}"


def _check_versions(client: Client, address: str) -> None:
    """Raises BuildError for the first process, by name, whose packages would make other masks or none."""
    ours = installed_versions()
    asked = {"packages": list(CHECKED_PACKAGES)}
    for left in reversed(range(ADMIT_TRIES)):  # workers that import torch on a busy machine answer nobody meanwhile
        try:
            scheduler = client.sync(client.scheduler.versions, **asked, callback_timeout=ASK_S)
            workers = client.sync(
                client.scheduler.broadcast, msg={"op": "versions", **asked}, on_error="ignore", callback_timeout=ASK_S
            )
            break
        except OSError:
            if client.status != "running":
                raise
            if not left:
                raise BuildError(
                    f"A worker at {address} does not answer within {ADMIT_TRIES * ASK_S:.0f} s; end it, or wait until "
                    "it has begun"
                ) from None
    theirs = checked_versions(scheduler["packages"])
    only = ("python", "locloc")  # it unpickles what workers run, and runs none of it
    if any(theirs[name] != ours[name] for name in only):
        differs = difference({name: theirs[name] for name in only}, {name: ours[name] for name in only})
        raise BuildError(f"The scheduler at {address} {differs}; start it in the coordinator's environment")
    members = _identities(client)
    reasons = {
        worker: differs
        for worker, answer in workers.items()
        if (differs := difference(checked_versions(answer["packages"]), ours)) is not None
    }
    _raise_first(reasons, members, "start workers in the coordinator's environment")


def _admit(client: Client, plugin: PrepareWorker, address: str) -> None:
    """Sets the workers up that are there, and leaves the plugin for those that will come."""
    for _ in range(ADMIT_TRIES):
        try:
            answers = client.sync(
                client.scheduler.register_worker_plugin,
                plugin=dumps(plugin),
                name=plugin.name,
                idempotent=False,
                callback_timeout=PREPARE_S,
            )
        except TimeoutError:
            raise BuildError(
                f"Workers at {address} did not load the backbone and the engine within {PREPARE_S:.0f} s; "
                "try again, or give a weights file that they can read faster"
            ) from None
        except OSError:
            time.sleep(0.2)  # until the client has noticed, if it was the scheduler that went
            if client.status != "running":
                raise BuildError(_lost(address)) from None
            continue  # a worker that was there when it was asked has gone
        reasons = {
            worker: str(loads(answer["exception"])) for worker, answer in answers.items() if answer["status"] == "error"
        }
        _raise_first(reasons, _identities(client), "mend that, or end that worker")
        return
    raise BuildError(f"Workers at {address} die while they load the backbone; try fewer, or give them more memory")


def _raise_first(reasons: dict[str, str], members: dict[str, dict], mend: str) -> None:
    if not reasons:
        return
    worker, reason = next(iter(reasons.items()))
    more = f" ({len(reasons) - 1} more are refused too)" if len(reasons) > 1 else ""
    raise BuildError(f"Worker {members.get(worker, {}).get('name', worker)} at {worker}: {reason}{more}; {mend}")


def _identities(client: Client) -> dict[str, dict]:
    """What the scheduler knows of its workers, by address. Raises OSError, of which TimeoutError is one."""
    return client.sync(client.scheduler.identity, n_workers=-1, callback_timeout=ASK_S)["workers"]


def _kinds(members) -> tuple[str, str, str]:
    """(device, resource of attend, resource of refine), by what the workers at the start declare.

    attend goes to GPU workers where there are any, refine to the others, and to the GPU workers if there are none.
    """
    with_gpu = [worker for worker in members if "GPU" in worker["resources"]]
    with_cpu = [worker for worker in members if "CPU" in worker["resources"] or "GPU" not in worker["resources"]]
    if not with_gpu:
        return "cpu", "CPU", "CPU"
    return "cuda", "GPU", "CPU" if with_cpu else "GPU"


def _can_run(worker: dict, needs: dict[str, float]) -> bool:
    """A paused worker has no memory left, and may never go on."""
    has = worker["resources"]
    return worker["status"] == "running" and all(has.get(name, 0) >= amount for name, amount in needs.items())
