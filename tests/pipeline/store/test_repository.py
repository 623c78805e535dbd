"""Icechunk's errors in one line; leftovers of a killed creation of a store."""

import os
import time

import icechunk
import pytest

from locloc.pipeline.errors import StoreError
from locloc.pipeline.store.repository import ensure_repository, has_repository, icechunk_errors

# As icechunk 1.1.21 words them, where a machine's clock is a day ahead (LD_PRELOAD) and then right again.
DRIFTED = """\
  x session error: snapshot timestamp is invalid, please verify if the machine clock has drifted: local clock: \
`2026-11-24 08:22:05.529242 UTC`, object store clock: `2026-11-23 08:22:05.530532110
  | UTC`
  |
  | context:
  |    0: icechunk::session::_commit
"""
OUT_OF_ORDER = """\
  x session error: invalid snapshot timestamp ordering. parent: `2026-11-24 08:22:05.060642 UTC`, child: \
`2026-11-23 08:22:15.407826 UTC`
  |
  | context:
"""


@pytest.mark.parametrize("said", [DRIFTED, OUT_OF_ORDER])
def test_clocks_that_differ_are_told_with_what_mends_it(said):
    message = r"photos.store: the clock .* differs .* \(2026-11-24 08:22:05.* UTC, 2026-11-23 08:22:.* UTC\); synch"
    with pytest.raises(StoreError, match=message) as error, icechunk_errors("photos.store"):
        raise icechunk.IcechunkError(said)
    assert "\n" not in str(error.value)


def test_what_a_killed_maker_left_goes_and_what_another_is_making_stays(tmp_path):
    store, hour_ago = tmp_path / "[a].store", time.time() - 3700
    for name, age in ((".[a].store-old", hour_ago), (".[a].store-new", time.time()), (".a.store-old", hour_ago)):
        (tmp_path / name / "[a].store").mkdir(parents=True)
        os.utime(tmp_path / name, (age, age))
    ensure_repository(store)
    assert has_repository(store)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".[a].store-new", ".a.store-old", "[a].store"]
