"""What a resumed run is: its own recipe and settings, unless others are asked for, and what of them may differ.

A run can go on with other settings where its saved state means the same under them. What differs is said, and kept in
run.json under `changed`.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors

from ...pipeline.catalogs.row_filter import RowFilter, read_row_filter
from ...pipeline.config import validate_settings
from ...pipeline.errors import RecipeError, TrainError, os_error_reason
from ...pipeline.io.local_paths import check_local
from ...pipeline.io.output_folder import check_output_folder
from ...pipeline.store import Version, open_version
from ...pipeline.store.lock import LOCK_ENTRIES
from ..data.splits import recorded_filter
from ..data.trained_version import open_trained_version
from ..models import is_guided
from ..recipe import TrainRecipe, apply_changes, load_train_recipe

if TYPE_CHECKING:
    from .request import TrainRequest

FROM_HERE_ON = {
    "lr_base": "the learning rate",
    "lr_base_batch": "the learning rate",
    "schedule": "the learning rate",
    "milestones": "the learning rate",
    "min_lr": "the learning rate",
    "clip_norm": "the gradients' norm",
    "accumulate": "the parts of a batch",
    "compile": "speed",
}
"""Settings of `fit` that a started task may change, beside its epochs, and what they change from the next step on."""

FIXED = {
    "seed": "it chose the images and the initial weights",
    "val_share": "it chose the validation images",
    "batch_size": "the saved state counts steps of that size",
    "optimizer": "the saved state is that optimizer's",
    "weight_decay": "the saved state holds it",
    "ema_decay": "the saved state holds the average",
    "min_quality": "it chose the training masks",
    "weighting": "it weighed the training masks",
}
"""Why a setting cannot change; of others: it decides the model or its training images."""


@dataclass(frozen=True)
class RunBefore:
    """The run in a folder, as run.json and recipe.toml have it."""

    out: Path
    metadata: dict[str, Any]

    @property
    def recipe(self) -> dict[str, Any]:
        """As it was recorded, without settings that came later."""
        return dict(self.metadata["recipe"])


def check_new(out: Path) -> None:
    """Raises TrainError unless `out` can become the folder of a new run."""
    if os.path.exists(out / "run.json"):
        raise TrainError(f"{out} holds a run already; resume it with --resume, or name another --out")
    check_output_folder(out, "--out", TrainError, ignored=LOCK_ENTRIES)


def read_run(out: Path) -> RunBefore:
    """Raises TrainError for a folder without a run."""
    check_local(out, "--out", TrainError)
    file = out / "run.json"
    try:
        metadata = json.loads(file.read_text(encoding="utf-8"))
        metadata["recipe"], metadata["fingerprint"], metadata["version"]
    except FileNotFoundError:
        raise TrainError(f"{out} holds no run to resume; run without --resume") from None
    except OSError as error:
        raise TrainError(f"{file} cannot be read: {os_error_reason(error)}") from None
    except (ValueError, KeyError, TypeError):
        raise TrainError(f"{file} is damaged; begin anew with another --out") from None
    return RunBefore(out, metadata)


def version_of_request(request: "TrainRequest", before: RunBefore | None) -> Version:
    """The version to train on. before: the run that is resumed."""
    if before is None or request.version != before.metadata["version"]:
        return open_version(request.version)
    out = request.out
    return open_trained_version(request.version, out, f"locloc train STORE@VERSION --out {out} --resume")


def row_filter_of(request: "TrainRequest", before: RunBefore | None) -> RowFilter | None:
    """The choice of rows: the request's, or else the resumed run's."""
    if request.only is not None:
        return read_row_filter(request.only)
    return None if before is None else recorded_filter(before.metadata, request.out)


def resumed_recipe(run: RunBefore, recipe: str | None, kind: str, changes: tuple[str, ...]) -> tuple[TrainRecipe, str]:
    """The recipe to go on with, and its name: `recipe`, or else the run's recipe.toml, with changes on top."""
    if recipe is not None:
        return load_train_recipe(recipe, kind, changes), Path(recipe).stem
    name = str(run.metadata.get("recipe_name", "custom"))
    file = run.out / "recipe.toml"
    if file.exists():
        return load_train_recipe(str(file), kind, changes), name
    content = apply_changes(TrainRecipe.model_validate(run.recipe).model_dump(), changes)
    return validate_settings(TrainRecipe, content, f"Recipe of {run.out}", RecipeError), name


def check_resumed(run: RunBefore, now: dict[str, Any], fingerprint_before: str) -> list[str]:
    """A line for each setting that differs from the run's.

    now                 metadata of the run to be
    fingerprint_before  of the run's own recipe with the version, precision and cache of now

    Raises TrainError for what cannot change in a run.
    """
    before = run.metadata
    if fingerprint_before != before["fingerprint"]:
        for name in ("version", "masks_fingerprint", "precision", "cache_tokens", "only"):
            if before.get(name) != now.get(name):
                raise TrainError(
                    f"{run.out} is another run: {name} {before.get(name)}, not {now.get(name)}; name another --out"
                )
        raise TrainError(f"{run.out} is another run: its masks were made again; name another --out")
    old, new = flat(TrainRecipe.model_validate(before["recipe"]).model_dump(mode="json")), flat(now["recipe"])
    return [_allowed(run, name, old[name], new[name]) for name in new if old[name] != new[name]]


def _allowed(run: RunBefore, name: str, old: Any, new: Any) -> str:
    """The line for a setting that may differ. Raises TrainError for one that may not."""
    task, _, rest = name.partition(".")
    setting = rest.removeprefix("fit.") if rest.startswith("fit.") else rest or task
    differs = f"{name} = {_shown(old)}, now {_shown(new)}"
    done = _epochs_done(run, task) if setting == "epochs" else 0
    if setting == "epochs" and done > new:
        raise TrainError(
            f"{run.out}: {task} has {done} epochs already, so {name} cannot become {new}; leave it at {done} or more"
        )
    if rest and task != "data" and not (run.out / task / "state.pt").exists():
        return f"{differs}: {task} has not begun, and takes it from its start"
    if not rest.startswith("fit.") or setting not in {*FROM_HERE_ON, "epochs"}:
        why = FIXED.get(setting, "it decides the model or its training images")
        raise TrainError(
            f"{run.out} is another run: {name} = {_shown(old)}, not {_shown(new)}; that cannot change in a run: "
            f"{why}; name another --out"
        )
    if setting != "epochs":
        return f"{differs}: {FROM_HERE_ON[setting]} from the next step on"
    if done == new:
        return f"{differs}: {task} has {done} epochs already, and is trained no further"
    return f"{differs}: {'more' if new > old else 'fewer'} epochs from the next step on; {_schedule_note(run, task)}"


def _schedule_note(run: RunBefore, task: str) -> str:
    schedule = run.recipe.get(task, {}).get("fit", {}).get("schedule")
    if schedule == "cosine":
        note = "its cosine schedule spans all epochs, so the learning rate jumps to where the new span has it"
    else:
        note = f"its {schedule} schedule goes on without a seam"
    guided = is_guided(run.recipe.get("classifier", {}).get("keep_tokens", 1.0))
    if task == "generator" and guided and (run.out / "classifier" / "state.pt").exists():
        note += "; the classifier was selected with the tokens of the generator as it was"
    return note


def _epochs_done(run: RunBefore, task: str) -> int:
    """Whole epochs, by the header of the last weights; 0 before the first."""
    file = run.out / task / "last.safetensors"
    if not file.exists():
        return 0
    try:
        with safetensors.safe_open(file, "pt") as content:
            return int(json.loads(content.metadata()["locloc"])["epoch"])
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError):
        raise TrainError(f"{file} is damaged; begin anew with another --out") from None


def _shown(value: Any) -> str:
    return json.dumps(value)


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
