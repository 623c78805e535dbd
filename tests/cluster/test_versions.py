"""Workers that have other packages than the coordinator: refused by name at the start, and given nothing when late."""

import re
import sys
from pathlib import Path

import pytest
from distributed import get_worker

from locloc.pipeline.build.cluster import ClusterSpec, open_cluster
from locloc.pipeline.build.cluster.worker_plugin import installed_versions
from locloc.pipeline.errors import BuildError

from .conftest import SMALL_BACKBONE, Processes, wait_for


@pytest.fixture
def other_torch(tmp_path: Path) -> dict[str, str]:
    """The environment of a process whose installed packages say that torch is 1.0."""
    metadata = tmp_path / "other" / "torch-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.0\n")
    return {"PYTHONPATH": str(metadata.parent)}


@pytest.mark.slow
def test_another_torch_gets_no_work_late_and_is_refused_by_name_at_the_start(
    processes: Processes, other_torch: dict[str, str]
):
    address, _ = processes.scheduler()
    processes.worker(address, "good")
    said: list[str] = []
    with open_cluster(ClusterSpec(scheduler=address), SMALL_BACKBONE, 9, said.append) as cluster:
        # It declares a CPU itself, so that nothing but the check keeps work from it.
        processes.worker(address, "old-node", "CPU=1", env=other_torch)
        wait_for(lambda: len(cluster.client.scheduler_info()["workers"]) == 2, 60, "the second worker")

        def told() -> bool:
            cluster.check()
            return len(said) > 1

        wait_for(told, 30, "the refusal")
        assert "worker old-node on " in said[1]
        assert "was refused: it has torch 1.0; the coordinator has torch" in said[1]
        assert cluster.check() == 1
        futures = [
            cluster.client.submit(lambda _: get_worker().name, n, resources=cluster.attend_on, pure=False)
            for n in range(20)
        ]
        assert set(cluster.client.gather(futures)) == {"good"}

    ours = re.escape(installed_versions()["torch"])
    with (
        pytest.raises(
            BuildError, match=rf"Worker old-node at tcp://.*: has torch 1\.0; the coordinator has torch {ours}"
        ),
        open_cluster(ClusterSpec(scheduler=address), SMALL_BACKBONE, 1, print),
    ):
        pass


def test_a_scheduler_without_locloc_is_told_of(processes: Processes, tmp_path: Path):
    """`-S` leaves the editable installation out; the packages themselves come by PYTHONPATH."""
    site = next(path for path in map(Path, sys.path) if (path / "distributed").is_dir())
    bare = tmp_path / "bare"
    bare.mkdir()
    for entry in site.iterdir():
        if not entry.name.lower().startswith(("locloc", "__editable__")):
            (bare / entry.name).symlink_to(entry)
    processes.env = {"PYTHONPATH": str(bare), "PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1"}
    address, _ = processes.scheduler("scheduler", 0, python_options=("-S",))
    processes.env = {}
    processes.worker(address, "good")
    with (
        pytest.raises(BuildError, match=rf"The scheduler at {address} has no locloc; the coordinator has locloc"),
        open_cluster(ClusterSpec(scheduler=address), SMALL_BACKBONE, 1, print),
    ):
        pass
