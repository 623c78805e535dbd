"""Rounds of masks and generators: the order of steps, what resumes, what is refused."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from locloc.pipeline.errors import TrainError
from locloc.trainer.recipe import TrainRecipe
from locloc.trainer.training.request import TrainArguments
from locloc.trainer.training.rounds import check_rounds, recorded_rounds, train_rounds


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
    with pytest.raises(TrainError, match="holds rounds already; `locloc train --out .* --resume` goes on"):
        train_rounds(arguments(tmp_path), 2, broken.train, broken.build)
    again = Steps()
    train_rounds(arguments(tmp_path, resume=True), 2, again.train, again.build)
    assert [step[3] for step in again.done if step[0] != "build"] == [True, True]
    unnamed = TrainArguments(None, tmp_path, recipe=TrainRecipe(), resume=True)
    train_rounds(unnamed, 3, (more := Steps()).train, more.build)
    assert [step[0] for step in more.done] == ["m.store@v1", "build", "m.store@v2", "build", "m.store@v3"]
    assert more.done[-1] == ("m.store@v3", "round-3", "all", False)


def requests_of(given, rounds, fail_at=0):
    steps, requests = Steps(fail_at), []

    def train(request):
        requests.append(request)
        return steps.train(request)

    with nullcontext() if not fail_at else pytest.raises(KeyboardInterrupt):
        train_rounds(given, rounds, train, steps.build)
    return requests


@pytest.mark.parametrize("fail_at", [1, 3])
def test_rounds_that_had_not_begun_are_trained_as_was_asked_for_at_first(fail_at, tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("a.jpg\nb.jpg\n")
    recipe = TrainRecipe(seed=5)
    asked = {
        "recipe": recipe, "recipe_name": "mine", "stage": "generator", "images": "moved", "weights": "w.safetensors",
        "precision": "bf16", "cache_tokens": True, "allow_changed_images": True, "boxes_in": "stored", "only": str(ids),
    }  # fmt: skip
    whole = requests_of(TrainArguments("m.store@v1", tmp_path / "whole", **asked), 3)
    requests_of(TrainArguments("m.store@v1", tmp_path / "cut", **asked), 3, fail_at)
    ids.unlink()
    (tmp_path / "cut").rename(tmp_path / "whole2")
    assert recorded_rounds(tmp_path / "whole2") == 3
    resumed = requests_of(TrainArguments(None, tmp_path / "whole2", resume=True), 3)
    begun = 1 if fail_at == 1 else 2
    for request, expected in zip(resumed[begun:], whole[begun:], strict=True):
        assert str(request.only).endswith("whole2/only.txt") and Path(request.only).read_text() == "a.jpg\nb.jpg\n"
        assert request == replace(expected, out=request.out, only=request.only)
    assert resumed[-1].recipe == recipe and resumed[-1].stage == "generator" and not resumed[-1].resume


def test_what_a_resumed_call_says_otherwise(tmp_path):
    requests_of(arguments(tmp_path), 2, fail_at=1)
    changes = ("generator.fit.epochs=3",)
    first, second = requests_of(TrainArguments(None, tmp_path, changes=changes, stage="generator", resume=True), 2)
    assert first.resume and not second.resume
    assert (second.stage, second.recipe.generator.fit.epochs) == ("generator", 3)
    third = requests_of(TrainArguments(None, tmp_path, resume=True), 3)[-1]
    assert (third.stage, third.recipe.generator.fit.epochs) == ("generator", 3)


def test_a_first_call_that_fails_before_a_run_begins_can_be_corrected(tmp_path):
    def refuse(request):
        raise TrainError("no such weights")

    out = tmp_path / "out"
    with pytest.raises(TrainError, match="no such weights"):
        train_rounds(arguments(out, weights="wrong"), 2, refuse, Steps().build)
    assert [request.weights for request in requests_of(arguments(out, weights="right"), 2)] == ["right", "right"]


def test_folders_that_hold_no_rounds(tmp_path):
    with pytest.raises(TrainError, match="holds no rounds to resume; run without --resume"):
        check_rounds(arguments(tmp_path, resume=True), 2)
    assert recorded_rounds(tmp_path) is None
    (tmp_path / "rounds.json").write_text('{"rounds": 2}')
    with pytest.raises(TrainError, match=r"rounds.json is damaged; begin anew"):
        recorded_rounds(tmp_path)
    (tmp_path / "rounds.json").unlink()
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(TrainError, match="is one run; run without --rounds"):
        check_rounds(arguments(tmp_path, resume=True), 2)
    with pytest.raises(TrainError, match="holds a run already"):
        check_rounds(arguments(tmp_path), 2)


def test_stages_without_a_generator_are_refused(tmp_path):
    with pytest.raises(TrainError, match="--stage ppd trains no generator"):
        check_rounds(arguments(tmp_path, stage="ppd"), 2)
    check_rounds(arguments(tmp_path, stage="generator"), 2)
