"""A scheduler that speaks TLS: who has the certificates works there, and nobody else."""

from pathlib import Path

import dask
import pytest
from distributed import get_worker

from locloc.pipeline.build.cluster import ClusterSpec, open_cluster
from locloc.pipeline.build.cluster import dask_scheduler as remote
from locloc.pipeline.errors import BuildError

from .conftest import SMALL_BACKBONE, Processes, as_environment, make_certificates


def assert_refused(message: str, address: str) -> None:
    with (
        pytest.raises(BuildError, match=message) as refusal,
        open_cluster(ClusterSpec(scheduler=address), SMALL_BACKBONE, 1, print),
    ):
        pass
    assert "\n" not in str(refusal.value)


@pytest.mark.slow
def test_tls_lets_in_who_has_the_certificates(
    processes: Processes, certificates: dict[str, object], tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(remote, "CONNECT_S", 5.0)
    processes.env |= as_environment(certificates)
    address, _ = processes.scheduler()
    processes.worker(address, "one")
    assert address.startswith("tls://")

    assert_refused("asks for TLS, and no certificates are configured", address)
    assert_refused("closed the connection; if it speaks TLS", address.replace("tls://", "tcp://"))
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    with dask.config.set(make_certificates(stranger)):
        assert_refused("certificate and ours do not go together", address)
        assert_refused("requires encryption, and this address has none", address.replace("tls://", "tcp://"))

    spec = ClusterSpec(scheduler=address)
    with dask.config.set(certificates), open_cluster(spec, SMALL_BACKBONE, 1, print) as cluster:
        name = cluster.client.submit(lambda: get_worker().name, resources=cluster.attend_on).result(timeout=60)
        assert name == "one"
