"""Which trained tasks a RUN holds. Imports no torch, so that a wrong path is told at once."""

from pathlib import Path
from typing import Literal

from ...pipeline.errors import TrainError, check_known
from ...pipeline.io.output_folder import Results, check_output_folder, check_writable_folder
from .hub_runs import run_folder

Kind = Literal["locloc", "ppd"]

TASKS_BY_KIND: dict[Kind, tuple[str, str]] = {"locloc": ("generator", "classifier"), "ppd": ("decoder", "linear")}
"""By kind of run: the tasks, which are folders of the run, of the map model and of the class model."""

WEIGHTS = "best.safetensors"


RELEASED = Results("|".join(f"{task}/{WEIGHTS}" for tasks in TASKS_BY_KIND.values() for task in tasks), marker=".")
"""A folder of imported weights; every folder has the marker."""


def check_import(out: Path) -> None:
    """Raises TrainError unless imported weights may be written to `out`: it is new or empty, or holds a run."""
    if (out / "run.json").is_file():
        check_writable_folder(out, "--out", TrainError)
    else:
        check_output_folder(out, "--out", TrainError, RELEASED, keep=True)


def find_tasks(run: Path, models: str) -> tuple[Kind, list[str]]:
    """Returns the kind of the run, and those of its tasks that have weights. Raises TrainError where there are none.

    run     a folder, or "hf:USER/NAME"
    models  "auto", or the kind
    """
    check_known(TrainError, "models", models, ("auto", *TASKS_BY_KIND))
    folder = run_folder(run)
    for kind, tasks in TASKS_BY_KIND.items():
        with_weights = [task for task in tasks if (folder / task / WEIGHTS).is_file()]
        if with_weights and models in ("auto", kind):
            return kind, with_weights
    wanted = [task for kind, tasks in TASKS_BY_KIND.items() if models in ("auto", kind) for task in tasks]
    raise TrainError(
        f"{run} holds no {'/'.join(wanted)} with {WEIGHTS}; `locloc train STORE@V --out RUN` makes a run, "
        "`locloc weights import FILE --out RUN` makes one of released weights"
    )
