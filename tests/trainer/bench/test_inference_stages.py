"""The images of the end-to-end timings."""

import pytest

from locloc.pipeline.errors import BenchError
from locloc.trainer.bench.inference_stages import load_images


def test_images_of_a_folder(tmp_path):
    with pytest.raises(BenchError, match="is no folder$"):
        load_images(tmp_path / "none", 2)
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(BenchError, match="holds no image"):
        load_images(tmp_path, 2)
    scene = load_images(None, 1)[0]
    (tmp_path / "b.JPG").write_bytes(scene)
    assert load_images(tmp_path, 3) == [scene] * 3
