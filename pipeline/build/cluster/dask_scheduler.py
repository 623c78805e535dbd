"""The workers of a Dask scheduler that runs already, here or on other machines. TLS as Dask's configuration says."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from distributed import Client
from distributed.comm import connect, normalize_address
from distributed.security import Security

from ...errors import BuildError
from ...io.machine import usable_cores
from .cluster import loss_as_error, silence_dask

CONNECT_S = 15.0
WORKERS_S = 20.0  # workers are thought to be there already; some may just be starting

_CERTIFICATES = (
    "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, ..._TLS__CLIENT__CERT and ..._TLS__CLIENT__KEY (docs/cluster.md) name them"
)


@contextmanager
def remote_client(address: str) -> Iterator[Client]:
    """A client of the scheduler at `address` (`host:8786`, `tcp://...`, `tls://...`), which has a worker at least.

    Raises BuildError within seconds where there is no scheduler, no worker, or no permission.
    """
    silence_dask()
    with ThreadPoolExecutor(1) as thread:  # there may be an event loop in this one
        refused = thread.submit(asyncio.run, _knock(address)).exception()
    if refused is not None:  # of many kinds: ValueError, TypeError, OSError, RuntimeError, ImportError
        raise BuildError(f"No connection to the Dask scheduler at {address}: {_why(refused, address)}")
    with Client(address, timeout=CONNECT_S) as client:
        with loss_as_error(client, address):
            try:
                client.wait_for_workers(1, timeout=WORKERS_S)
            except TimeoutError:
                raise BuildError(
                    f"The scheduler at {address} has no workers; start some with `dask worker {address} --nthreads 1`"
                ) from None
        yield client


async def _knock(address: str) -> None:
    """Connects and goes. A Client whose first connection fails is never closed, and spoils the next."""
    comm = await connect(normalize_address(address), timeout=CONNECT_S, **Security().get_connection_args("client"))
    await comm.close()


def dashboard(client: Client) -> str | None:
    """Where the scheduler's dashboard is, where it has one."""
    try:
        return client.dashboard_link
    except KeyError:
        return None


def decode_threads(client: Client) -> int:
    """Cores that each GPU worker has beside its own: the fewest of any, since a task may go anywhere."""
    workers = client.scheduler_info()["workers"]
    on_host = Counter(worker["host"] for worker in workers.values())
    cores = client.run(
        usable_cores, workers=[address for address, worker in workers.items() if "GPU" in worker["resources"]]
    )
    return max(1, min(count // on_host[workers[address]["host"]] for address, count in cores.items()) - 1)


def _why(error: BaseException, address: str) -> str:
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
