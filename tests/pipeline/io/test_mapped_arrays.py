"""Files written through memory: their space is reserved, so that a full disk is an error and no SIGBUS."""

import errno
import os

import numpy as np
import pytest

from locloc.pipeline.io.mapped_arrays import create_mapped


def test_the_space_is_reserved(tmp_path):
    file = tmp_path / "a.npy"
    array = create_mapped(file, np.float16, (1000, 1000))
    if hasattr(os, "posix_fallocate"):
        assert file.stat().st_blocks * 512 >= array.nbytes
    array[5, 7] = 3
    array.flush()
    assert np.load(file)[5, 7] == 3 and np.load(file).shape == (1000, 1000)


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="a.npy") as caught:
        create_mapped(tmp_path / "a.npy", np.uint8, (3,))
    assert caught.value.errno == errno.ENOSPC


def test_a_file_system_that_cannot_reserve_is_written_all_the_same(tmp_path, monkeypatch):
    def unknown(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unknown, raising=False)
    assert create_mapped(tmp_path / "a.npy", np.uint8, (3,)).tolist() == [0, 0, 0]
