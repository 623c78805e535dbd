"""A run's generator as the source of a build's maps."""

import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from locloc.pipeline.errors import BuildError
from locloc.trainer.models.checkpoint import save_checkpoint
from locloc.trainer.models.generator import Generator
from locloc.trainer.models.generator_maps import GeneratorMaps, file_sha256, weights_file

SHAPE = {"channels": 6, "base": 2, "width": 4, "tail": (4, 4, 4)}


@pytest.fixture
def maps(tmp_path) -> GeneratorMaps:
    (tmp_path / "generator").mkdir()
    torch.manual_seed(0)
    save_checkpoint(weights_file(tmp_path), Generator(**SHAPE), "generator", {"shape": SHAPE})
    sha256 = file_sha256(weights_file(tmp_path))
    return GeneratorMaps(str(tmp_path), sha256, "ab" * 32, "photos.store@v1", "cd" * 32, "pocket", None)


def test_maps_are_those_of_the_model(maps):
    features = torch.randn(2, 6, 4, 4)
    torch.manual_seed(0)
    with torch.no_grad():
        expected = Generator(**SHAPE).eval()(features)[:, 0]
    drawn = pickle.loads(pickle.dumps(maps)).load("cpu")(features)
    assert drawn.shape == (2, 32, 32) and torch.allclose(drawn, expected, atol=1e-5)
    assert maps.load("cpu") is maps.load("cpu"), "loaded once per process"
    assert maps.provenance()["sha256"] == maps.sha256


def test_other_weights_are_refused(maps):
    changed = replace(maps, sha256="0" * 64)
    with pytest.raises(BuildError, match=r"other weights than those these masks began with \(000000000000\)"):
        changed.load("cpu")
    weights_file(maps.run).unlink()
    with pytest.raises(BuildError, match="cannot be read"):
        replace(maps, fingerprint="other").load("cpu")


def test_a_generator_of_other_tokens_is_refused(maps):
    class Other:
        name, sha256 = "vit", "ef" * 32

    with pytest.raises(BuildError, match=r"trained on the tokens of other weights \(cdcdcdcdcdcd\)"):
        maps.check_fits(Other())


def test_a_scheduler_unpickles_it_without_torch():
    code = "import sys, locloc.trainer.models.generator_maps; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
