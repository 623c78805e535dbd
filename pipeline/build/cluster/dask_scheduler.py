"""Connects to a running Dask scheduler, on this machine or another. TLS follows Dask's configuration."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from distributed import Client
from distributed.comm.addressing import normalize_address
from distributed.comm.core import connect
from distributed.security import Security

from ...errors import BuildError
from ...io.machine import usable_cores
from .cluster import loss_as_error, silence_dask

CONNECT_S = 15.0
WORKERS_S = 20.0  # for the first worker, which may just be starting

_CERTIFICATES = (
    "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, ..._TLS__CLIENT__CERT and ..._TLS__CLIENT__KEY (docs/cluster.md) name them"
)


@contextmanager
def scheduler_client(address: str) -> Iterator[Client]:
    """A client of the scheduler at `address` (`host:8786`, `tcp://...`, `tls://...`) that has at least one worker.

    Raises BuildError within seconds where there is no scheduler, no worker, or no permission.
    """
    check_scheduler(address)
    with Client(address, timeout=CONNECT_S) as client:
        with loss_as_error(client, address):
            try:
                client.wait_for_workers(1, timeout=WORKERS_S)
            except TimeoutError:
                raise BuildError(
                    f"The scheduler at {address} has no workers; start some with `dask worker {address} --nthreads 1`"
                ) from None
        yield client


def check_scheduler(address: str) -> None:
    """Raises BuildError within seconds where there is no scheduler, or no permission."""
    silence_dask()
    with ThreadPoolExecutor(1) as thread:  # this thread may have an event loop already
        refused = thread.submit(asyncio.run, _test_connection(address)).exception()
    if refused is not None:  # of many types: ValueError, TypeError, OSError, RuntimeError, ImportError
        raise BuildError(f"No connection to the Dask scheduler at {address}: {_refusal_reason(refused, address)}")


async def _test_connection(address: str) -> None:
    """Connects and disconnects. A Client whose first connection fails is never closed, and breaks the next one."""
    comm = await connect(normalize_address(address), timeout=CONNECT_S, **Security().get_connection_args("client"))
    await comm.close()


def dashboard_link(client: Client) -> str | None:
    """The address of the scheduler's dashboard, or None where it has none."""
    try:
        return client.dashboard_link
    except KeyError:
        return None


def decode_threads(client: Client) -> int:
    """Spare cores of a GPU worker, for decoding: the fewest of all hosts, since any worker may get any task."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    on_host = Counter(worker["host"] for worker in workers.values())
    gpu_workers = [address for address, worker in workers.items() if "GPU" in worker["resources"]]
    cores = client.run(usable_cores, workers=gpu_workers)
    return max(1, min(count // on_host[workers[address]["host"]] for address, count in cores.items()) - 1)


def _refusal_reason(error: BaseException, address: str) -> str:
    text = str(error)
    if "ssl_context" in text:
        return f"it asks for TLS, and no certificates are configured; {_CERTIFICATES}"
    if "TLS certificate does not match" in text or "SSL" in text:
        return f"its certificate and ours do not go together; {_CERTIFICATES}"
    if "encryption required" in text:
        return "Dask's configuration requires encryption, and this address has none; give a tls:// address"
    if isinstance(error, OSError) and "Timed out" in text:
        return f"nothing answered for {CONNECT_S:.0f} s; is it running, and can this machine reach it?"
    if isinstance(error, OSError) and not address.startswith("tls://"):
        return "it closed the connection; if it speaks TLS, give its address as tls://..."
    return next(iter(text.splitlines()), "") or type(error).__name__
