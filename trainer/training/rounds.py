"""`locloc train --rounds N`: masks, a generator, masks from its maps, a generator that learns from these, and so on.

Round k is the run OUT/round-k; the masks of the next round are a version of the same store. Each step is resumed by
itself: a run that is complete is left as it is, and a version that exists is found by its fingerprint. OUT/rounds.json
has what was asked for, for the rounds that have not begun.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...pipeline.catalogs.row_filter import read_row_filter
from ...pipeline.config import validate_settings
from ...pipeline.errors import RecipeError, TrainError, os_error_reason
from ...pipeline.io.atomic import write_atomic
from ..data.splits import ONLY, keep_ids
from ..recipe import TrainRecipe, apply_changes
from .request import TrainArguments, TrainRequest, resolve_request
from .resume import check_new, read_run

if TYPE_CHECKING:
    from .run import TrainSummary


ROUNDS = "rounds.json"

_KEPT = {
    "rounds", "version", "stage", "recipe", "recipe_name", "images", "weights", "precision", "cache_tokens",
    "allow_changed_images", "boxes_in", "only",
}  # fmt: skip


def round_dir(out: Path, number: int) -> Path:
    """The run of a round, from 1."""
    return out / f"round-{number}"


def train_rounds(
    given: TrainArguments,
    rounds: int,
    train: "Callable[[TrainRequest], TrainSummary]",
    build_round: Callable[[str, Path], str],
    on_round: Callable[[int, str], None] = lambda number, version: None,
) -> "list[TrainSummary]":
    """Trains `rounds` runs below `given.out`, each on masks made from the maps of the one before.

    train        trains one run
    build_round  `STORE@V`, and the run that was trained on it > the name of the version made from its maps
    on_round     called with a round's number and the name of its masks, before it is trained

    All rounds but the last train the generator alone, the last the stage that was asked for. Raises a subclass of
    LocLocError; what was finished is kept, and with `given.resume` the rounds go on, as they were asked for at first
    where `given` does not say otherwise.
    """
    check_rounds(given, rounds)
    assert given.out is not None
    asked = _asked(given)
    _write(asked, rounds)
    version = str(asked.version)
    summaries = []
    for number in range(1, rounds + 1):
        run = round_dir(given.out, number)
        begun = (run / "run.json").is_file()
        stage = asked.stage if number == rounds else "generator"
        on_round(number, version)
        arguments = given if begun else asked  # a run that has begun has its own recipe and settings
        summaries.append(
            train(resolve_request(replace(arguments, version=version, out=run, stage=stage, resume=begun)))
        )
        if number < rounds:
            version = build_round(version, run)
    return summaries


def recorded_rounds(out: Path) -> int | None:
    """How many rounds the folder was made for; None: it is not of rounds. Raises TrainError."""
    return _read(out)["rounds"] if (out / ROUNDS).is_file() else None


def check_rounds(given: TrainArguments, rounds: int) -> None:
    """Raises TrainError for arguments that several rounds cannot have."""
    if given.out is None:
        raise TrainError("--out names the folder of the rounds' runs")
    if given.stage not in (None, "all", "generator"):
        raise TrainError(
            f"--stage {given.stage} trains no generator, from whose maps a next round's masks are made; train it on "
            "the masks of the last round"
        )
    if not given.resume and (round_dir(given.out, 1) / "run.json").is_file():
        raise TrainError(
            f"{given.out} holds rounds already; `locloc train --out {given.out} --resume` goes on, or name another "
            "--out"
        )
    if (given.out / ROUNDS).is_file():
        return  # to be resumed, or none of them had begun, as after a mistake in the first call
    if given.resume and (given.out / "run.json").is_file():
        raise TrainError(f"{given.out} is one run; run without --rounds")
    if given.resume:
        raise TrainError(f"{given.out} holds no rounds to resume; run without --resume")
    check_new(given.out)


def _asked(given: TrainArguments) -> TrainArguments:
    """What a round that has not begun is trained by: what was asked for at first, and what this call says otherwise."""
    assert given.out is not None
    if not given.resume:
        request = resolve_request(given)
        only = request.only and _kept(given.out, request.only)
        return replace(given, recipe=request.recipe, recipe_name=request.recipe_name, changes=(), only=only)
    before, first = _read(given.out), round_dir(given.out, 1)
    begun = (first / "run.json").is_file()  # then "@latest" may have become the version of a later round
    version = given.version or (read_run(first).metadata["version"] if begun else before["version"])
    recipe, name = before["recipe"], before["recipe_name"]
    if given.recipe is not None:
        request = resolve_request(replace(given, version=version, resume=False))
        recipe, name = request.recipe, request.recipe_name
    elif given.changes:
        content = apply_changes(recipe.model_dump(), given.changes)
        recipe = validate_settings(TrainRecipe, content, f"Recipe of {given.out}", RecipeError)
    only = _kept(given.out, given.only) if given.only else before["only"]
    return replace(
        given,
        version=version,
        stage=given.stage or before["stage"],
        recipe=recipe,
        recipe_name=name,
        changes=(),
        images=given.images or before["images"],
        weights=given.weights or before["weights"],
        precision=given.precision or before["precision"],
        cache_tokens=given.cache_tokens or before["cache_tokens"],
        allow_changed_images=given.allow_changed_images or before["allow_changed_images"],
        boxes_in=given.boxes_in if given.boxes_in != "upright" else before["boxes_in"],
        only=str(given.out / ONLY) if only == ONLY else only,
    )


def _kept(out: Path, only: str) -> str:
    """`only`, or the name of a copy of the file of ids that it names."""
    ids = read_row_filter(only).ids
    if ids is None:
        return only
    try:
        out.mkdir(parents=True, exist_ok=True)
        keep_ids(out, ids)
    except OSError as error:
        raise _unwritable(out, error) from None
    return str(out / ONLY)


def _write(asked: TrainArguments, rounds: int) -> None:
    assert asked.out is not None and isinstance(asked.recipe, TrainRecipe)
    content = {
        "rounds": rounds,
        "version": asked.version,
        "stage": asked.stage,
        "recipe": asked.recipe.model_dump(mode="json"),
        "recipe_name": asked.recipe_name,
        "images": asked.images,
        "weights": asked.weights,
        "precision": resolve_request(replace(asked, resume=False)).runtime.precision,
        "cache_tokens": asked.cache_tokens or asked.runtime.cache_tokens,
        "allow_changed_images": asked.allow_changed_images,
        "boxes_in": asked.boxes_in,
        "only": ONLY if asked.only == str(asked.out / ONLY) else asked.only,
    }
    try:
        asked.out.mkdir(parents=True, exist_ok=True)
        write_atomic(asked.out / ROUNDS, json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise _unwritable(asked.out, error) from None


def _read(out: Path) -> dict[str, Any]:
    """What `_write` wrote. Raises TrainError for a damaged file."""
    file = out / ROUNDS
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        recipe, content["rounds"] = content["recipe"], int(content["rounds"])
        if missing := _KEPT - content.keys():
            raise KeyError(missing)
    except OSError as error:
        raise TrainError(f"{file} cannot be read: {os_error_reason(error)}") from None
    except (ValueError, KeyError, TypeError):
        raise TrainError(f"{file} is damaged; begin anew with another --out") from None
    return content | {"recipe": validate_settings(TrainRecipe, recipe, f"Recipe of {file}", RecipeError)}


def _unwritable(out: Path, error: OSError) -> TrainError:
    return TrainError(f"{out} cannot be written: {os_error_reason(error)}; name another --out")
