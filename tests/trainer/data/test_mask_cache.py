"""The mask cache holds the masks of its version."""

import os
import pickle

import numpy as np

from locloc.trainer.data.mask_cache import MaskCache


def test_masks_of_the_cache_are_those_of_the_version(unsplit, tmp_path):
    masks = MaskCache(tmp_path / "cache" / "masks.npy").write(unsplit)
    wanted = unsplit.read_masks()
    assert len(unsplit) > 64 and len({mask.tobytes() for mask in wanted}) > 20
    for row in (*range(len(unsplit)), -1):
        read = masks.read(row)
        assert read.dtype == bool and np.array_equal(read, wanted[row])
    assert os.listdir(masks.file.parent) == ["masks.npy"]


def test_an_existing_mask_cache_is_not_written_again(small, unsplit, tmp_path):
    file = MaskCache(tmp_path / "masks.npy").write(small).file
    before = file.stat()
    assert MaskCache(file).write(unsplit) == MaskCache(file)
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_interrupted_mask_cache_is_written_again(small, tmp_path):
    (tmp_path / "masks.npy.part").write_bytes(b"half of it")
    masks = MaskCache(tmp_path / "masks.npy").write(small)
    assert np.array_equal(masks.read(5), small.read_masks()[5])
    assert os.listdir(tmp_path) == ["masks.npy"]


def test_a_mask_cache_is_pickled_without_pixels(small, tmp_path):
    masks = MaskCache(tmp_path / "masks.npy").write(small)
    opened = masks.read(3)
    data = pickle.dumps(masks)
    again = pickle.loads(data)
    assert len(data) < 500 and again == masks
    assert np.array_equal(again.read(3), opened)
