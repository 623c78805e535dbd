"""`locloc export`: what its options say about each other, before torch is imported."""

import pytest

from locloc.pipeline.errors import LocLocError
from locloc.trainer.commands.export import export


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run" / "generator").mkdir(parents=True)
    (tmp_path / "run" / "generator" / "best.safetensors").touch()
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "onxn"}, "No format 'onxn'; did you mean 'onnx'"),
        ({"tau": 2.0}, "tau is a share of a map's range"),
        ({"to": "hub", "tau": 0.5}, "--tau is of the graph's mask, of --to onnx; leave it out with --to hub"),
        ({"figures": "f.json"}, "--figures are for the model card, of --to hub; leave them out with --to onnx"),
        ({"class_square": "won"}, "No class square 'won'; did you mean 'own'"),
        ({"class_square": "own", "to": "hub"}, "--class-square is of the graph, of --to onnx"),
        ({"class_square": "own"}, "is for runs with maps and classes; .*run has the generator alone"),
        ({"models": "ppd"}, "holds no decoder/linear"),
        ({"out": "run"}, "OUT .*run is not empty"),
    ],
)
def test_mistakes_are_told_at_once(run, tmp_path, options, message):
    out = tmp_path / options.pop("out", "out")
    with pytest.raises(LocLocError, match=message):
        export(run, out, **options)
    assert not (tmp_path / "out").exists()
