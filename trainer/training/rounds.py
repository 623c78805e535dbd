"""`locloc train --rounds N`: masks, a generator, masks from its maps, a generator that learns from these, and so on.

Round k is the run OUT/round-k; the masks of the next round are a version of the same store. Each step is resumed by
itself, so nothing else has to be kept: a run that is complete is left as it is, and a version that exists is found by
its fingerprint.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...pipeline.errors import TrainError
from .request import TrainArguments, TrainRequest, resolve_request
from .resume import read_run

if TYPE_CHECKING:
    from .run import TrainSummary


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
    LocLocError; what was finished is kept, and with `given.resume` the same call goes on.
    """
    check_rounds(given, rounds)
    assert given.out is not None
    version = _first_version(given)
    summaries = []
    for number in range(1, rounds + 1):
        run = round_dir(given.out, number)
        begun = (run / "run.json").is_file()
        stage = given.stage if number == rounds else "generator"
        on_round(number, version)
        summaries.append(train(resolve_request(replace(given, version=version, out=run, stage=stage, resume=begun))))
        if number < rounds:
            version = build_round(version, run)
    return summaries


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
        raise TrainError(f"{given.out} holds rounds already; go on with --resume, or name another --out")


def _first_version(given: TrainArguments) -> str:
    if given.version is not None:
        return given.version
    assert given.out is not None
    return str(read_run(round_dir(given.out, 1)).metadata["version"])
