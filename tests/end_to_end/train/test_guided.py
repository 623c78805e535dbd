"""`locloc train` with guided tokens: the generator first, then a classifier that looks where its maps say."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from locloc.pipeline.errors import TrainError
from locloc.trainer.models.checkpoint import load_checkpoint
from locloc.trainer.models.localizer import load_localizer
from locloc.trainer.models.token_selection import select_tokens

from .conftest import SMALL, in_process, lines, losses

GUIDED = [*SMALL, "--cache-tokens", "--set", "classifier.keep_tokens=0.25", "--set", "classifier.shared_blocks=0.33"]


@pytest.fixture(scope="module")
def run(version, tmp_path_factory):
    out = tmp_path_factory.mktemp("guided") / "run"
    in_process("train", version, "--out", out, *GUIDED)
    return out


@pytest.mark.slow
def test_a_guided_run_learns_and_says_so(run):
    model, header = load_checkpoint(run / "classifier" / "best.safetensors")
    assert model.keep_tokens == header["shape"]["keep_tokens"] == 0.25
    assert model.shared_blocks == header["shape"]["shared_blocks"] == 2 and len(model.blocks) == 4
    assert header["recipe"]["classifier"]["keep_tokens"] == 0.25
    assert len(losses(run, "classifier")) == 6 and np.isfinite(losses(run, "classifier")).all()
    assert json.loads((run / "run.json").read_text())["recipe"]["classifier"]["keep_tokens"] == 0.25


@pytest.mark.slow
def test_it_was_judged_as_it_is_used(run, scenes):
    """Validation's loss is that of the localiser, which chooses tokens by the run's own maps."""
    localizer = load_localizer(run, "cpu")
    listed = [line.split(",") for line in (scenes / "list.csv").read_text().splitlines()[1:]]
    val = [(row[0], int(row[2])) for row in listed if row[3] == "val"]
    seen = []
    for path, _ in val:
        rgb = np.array(Image.open(scenes / path).convert("RGB"))
        seen.append(localizer.class_geometry(rgb.shape[1::-1]).image(rgb))
    maps, logits = localizer.both(np.stack(seen))
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([label for _, label in val]))
    header = load_checkpoint(run / "classifier" / "best.safetensors")[1]
    assert abs(float(loss) - header["figures"]["loss"]) < 1e-3
    assert select_tokens(maps, (14, 14), 0.25).shape == (8, 49)
    ends = [line for line in lines(run, "classifier") if "val_top1" in line]
    assert all(line["val_images"] == 8 for line in ends)


def test_without_a_generator_it_does_not_begin(version, tmp_path):
    with pytest.raises(TrainError, match="no generator yet; train it first, as --stage all does"):
        in_process("train", version, "--out", tmp_path / "run", "--stage", "classifier", *GUIDED)
