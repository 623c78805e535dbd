"""What the cheaper models lose: accuracy of GEG's kinds and of guided tokens, on a store of made scenes, seed by seed.

    python scripts/measure_bench.py kinds STORE@V --out DIR [--seeds 2]            tapered and paper, CorLoc on val
    python scripts/measure_bench.py tokens STORE@V --out DIR [--shares 1 .5 .35]   LFDM on a share of the tokens, top 1

Arithmetic and time are `locloc bench`'s. Figures are of each run's best weights on the validation scenes, guided
classifiers with the tokens that their run's own generator chooses. Runs that are there are gone on with. On one core
the paper's kind of GEG costs about ten times the tapered one: --epochs and a smaller store shorten it.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from locloc.pipeline.store import open_version
from locloc.trainer.recipe import load_train_recipe
from locloc.trainer.run import HowToTrain, TrainRequest, train
from locloc.trainer.terminal import shown_training


def fitted(version: str, out: Path, stage: str, changes: list[str]) -> dict[str, dict]:
    """The figures of a run's stages on the validation images."""
    kind = open_version(version).provenance["catalog"]["kind"]
    recipe = load_train_recipe("locloc", kind, tuple(changes))
    how = HowToTrain(workers=0, cache_tokens=True)
    request = TrainRequest(version, out, recipe, "locloc", stage, how=how)
    stages = train(replace(request, resume=out.exists()), shown_training).stages
    return {name: best["figures"] for name, best in stages.items()}


def kinds(version: str, out: Path, seeds: int, epochs: int) -> None:
    for seed in range(seeds):
        for kind in ("tapered", "paper"):
            changes = [f"seed={seed}", f"generator.kind={kind}", f"generator.fit.epochs={epochs}"]
            figures = fitted(version, out / f"{kind}-{seed}", "generator", changes)["generator"]
            print(f"seed {seed}, {kind}: { ({name: round(value, 4) for name, value in figures.items()}) }", flush=True)


def tokens(version: str, out: Path, seeds: int, epochs: int, shares: list[float]) -> None:
    for seed in range(seeds):
        for share in shares:
            changes = [f"seed={seed}", f"classifier.fit.epochs={epochs}", f"classifier.keep_tokens={share}"]
            figures = fitted(version, out / f"tokens-{share:g}-{seed}", "all", changes)["classifier"]
            rounded = {name: round(value, 4) for name, value in figures.items()}
            print(f"seed {seed}, share {share:g}: {rounded}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    for name in ("kinds", "tokens"):
        one = commands.add_parser(name)
        one.add_argument("version")
        one.add_argument("--out", type=Path, required=True)
        one.add_argument("--seeds", type=int, default=2)
        one.add_argument("--epochs", type=int, default=8)
    commands.choices["tokens"].add_argument("--shares", type=float, nargs="+", default=[1.0, 0.5, 0.35])
    given = parser.parse_args()
    if given.command == "kinds":
        kinds(given.version, given.out, given.seeds, given.epochs)
    else:
        tokens(given.version, given.out, given.seeds, given.epochs, given.shares)


if __name__ == "__main__":
    main()
