"""Real workers verify a build, and some or all of them, or their scheduler, die meanwhile."""

import importlib
from pathlib import Path

import pytest

from locloc.pipeline.build import verification
from locloc.pipeline.build.cluster import ClusterSpec, open_cluster
from locloc.pipeline.store import open_version
from locloc.pipeline.store.schema import BLOCK_ROWS
from locloc.pipeline.store.writer import StoreWriter

from .conftest import Processes
from .test_scale import SCRIPTS

ROWS, AT = 12_800, 20  # the submission at which they die


@pytest.mark.slow
@pytest.mark.parametrize("dies", ["a worker", "all workers", "the scheduler"])
def test_a_version_is_published_whoever_dies_while_it_is_verified(
    dies: str, processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.setattr("locloc.pipeline.store.writer.PART_ROWS", BLOCK_ROWS)  # many tasks
    monkeypatch.setattr(verification, "WITHOUT_WORKERS_S", 1.0)
    measure = importlib.import_module("measure_verify")
    address, scheduler = processes.scheduler()
    workers = [processes.worker(address, name) for name in ("one", "two")]
    victims = {"a worker": workers[:1], "all workers": workers, "the scheduler": [scheduler]}[dies]
    said: list[str] = []
    with StoreWriter(tmp_path / "masks.store") as writer:
        measure.finish(writer, ROWS)
        with open_cluster(ClusterSpec(scheduler=address), None, 10, said.append) as cluster:
            submit, keys = cluster.client.submit, []

            def submit_and_kill(*arguments, key, **named):
                keys.append(key)
                if len(keys) == AT:
                    for victim in victims:
                        processes.kill(victim)
                return submit(*arguments, key=key, **named)

            monkeypatch.setattr(cluster.client, "submit", submit_and_kill)
            parts = writer.parts()
            intact = verification.intact_parts(parts, cluster)
        starts = {part.start for part in parts}
        assert len(starts) == ROWS // BLOCK_ROWS
        if dies == "a worker":
            assert intact == starts, "the other one did it all"
        else:
            assert intact < starts
            assert len(keys) < len(starts)
        writer.verify(intact)
        assert writer.publish() == "v1"
    assert len(open_version(f"{tmp_path / 'masks.store'}@v1")) == ROWS
