"""Rounds of masks and generators: the order of steps, what resumes, what is refused."""

import json
from pathlib import Path

import pytest

from locloc.pipeline.errors import TrainError
from locloc.trainer.recipe import TrainRecipe
from locloc.trainer.training.request import TrainArguments
from locloc.trainer.training.rounds import check_rounds, train_rounds


class Steps:
    """Records what would be trained and built; a run is complete once its run.json is there."""

    def __init__(self, fail_at: int = 0):
        self.done, self.fail_at = [], fail_at

    def train(self, request):
        self.done.append((request.version, request.out.name, request.stage, request.resume))
        request.out.mkdir(parents=True, exist_ok=True)
        (request.out / "run.json").write_text(
            json.dumps({"version": request.version, "fingerprint": "", "recipe": request.recipe.model_dump()})
        )
        if len(self.done) == self.fail_at:
            raise KeyboardInterrupt
        return request.out.name

    def build(self, version: str, run: Path) -> str:
        self.done.append(("build", version, run.name))
        return f"m.store@v{int(version[-1]) + 1}"


def arguments(out, **changes) -> TrainArguments:
    return TrainArguments("m.store@v1", out, recipe=TrainRecipe(), **changes)


def test_each_round_learns_from_the_masks_of_the_one_before(tmp_path):
    steps, said = Steps(), []
    done = train_rounds(arguments(tmp_path), 3, steps.train, steps.build, lambda *round: said.append(round))
    assert done == ["round-1", "round-2", "round-3"]
    assert steps.done == [
        ("m.store@v1", "round-1", "generator", False),
        ("build", "m.store@v1", "round-1"),
        ("m.store@v2", "round-2", "generator", False),
        ("build", "m.store@v2", "round-2"),
        ("m.store@v3", "round-3", "all", False),
    ]
    assert said == [(1, "m.store@v1"), (2, "m.store@v2"), (3, "m.store@v3")]


def test_the_same_call_goes_on(tmp_path):
    broken = Steps(fail_at=3)
    with pytest.raises(KeyboardInterrupt):
        train_rounds(arguments(tmp_path), 2, broken.train, broken.build)
    with pytest.raises(TrainError, match="holds rounds already; go on with --resume"):
        train_rounds(arguments(tmp_path), 2, broken.train, broken.build)
    again = Steps()
    train_rounds(arguments(tmp_path, resume=True), 2, again.train, again.build)
    assert [step[3] for step in again.done if step[0] != "build"] == [True, True]
    unnamed = TrainArguments(None, tmp_path, recipe=TrainRecipe(), resume=True)
    train_rounds(unnamed, 3, (more := Steps()).train, more.build)
    assert [step[0] for step in more.done] == ["m.store@v1", "build", "m.store@v2", "build", "m.store@v3"]
    assert more.done[-1] == ("m.store@v3", "round-3", "all", False)


def test_stages_without_a_generator_are_refused(tmp_path):
    with pytest.raises(TrainError, match="--stage ppd trains no generator"):
        check_rounds(arguments(tmp_path, stage="ppd"), 2)
    check_rounds(arguments(tmp_path, stage="generator"), 2)
