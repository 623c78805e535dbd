"""The accuracy that cheaper models lose: GEG's kinds and guided tokens, on a store of synthetic scenes, by seed.

    python scripts/measure_bench.py kinds STORE@V --out DIR [--seeds 2]            tapered and paper, by CorLoc and IoU
    python scripts/measure_bench.py tokens STORE@V --out DIR [--shares 1 .75 .5]   LFDM on a share of the tokens, top 1

--shared-blocks SHARE: LFDM's first blocks are the frozen ViT's. --plain: it learns from images that are not blackened.

`locloc bench` measures arithmetic and time. Prints the validation metrics of each run's best weights after the run, and
the test metrics at the end. A guided classifier takes the tokens chosen by its own run's generator. Existing runs are
resumed. On one core the paper's kind of GEG costs about ten times the tapered one: reduce --epochs or the store.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from locloc.pipeline.store import open_version
from locloc.trainer.commands.rendering import training_progress_bar
from locloc.trainer.evaluation.evaluate import evaluate
from locloc.trainer.evaluation.protocols import protocols_named
from locloc.trainer.evaluation.resolve import resolve_targets
from locloc.trainer.evaluation.table import print_evaluation
from locloc.trainer.models import is_guided
from locloc.trainer.recipe import load_train_recipe
from locloc.trainer.training.run import RuntimeConfig, TrainRequest, train


def fitted(version: str, out: Path, stage: str, changes: list[str], cache_tokens: bool) -> None:
    """Trains or resumes a run, and prints its validation metrics."""
    kind = open_version(version).provenance["catalog"]["kind"]
    recipe = load_train_recipe("locloc", kind, tuple(changes))
    runtime = RuntimeConfig(workers=0, cache_tokens=cache_tokens)
    request = TrainRequest(version, out, recipe, "locloc", stage, runtime=runtime)
    for name, best in train(replace(request, resume=out.exists()), training_progress_bar).stages.items():
        figures = {figure: round(value, 4) for figure, value in best["figures"].items()}
        print(f"{out.name}, {name}, val: {figures}", flush=True)


def kinds(version: str, given: argparse.Namespace) -> list[Path]:
    runs = []
    for seed in range(given.seeds):
        for kind in ("tapered", "paper"):
            run = given.out / f"{kind}-{seed}"
            changes = [f"seed={seed}", f"generator.kind={kind}", f"generator.fit.epochs={given.epochs}"]
            fitted(version, run, "generator", changes, cache_tokens=True)
            runs.append(run)
    return runs


def tokens(version: str, given: argparse.Namespace) -> list[Path]:
    runs = []
    for seed in range(given.seeds):
        for share in given.shares:
            run = (
                given.out / f"tokens-{share:g}-{given.shared_blocks:g}-{'plain' if given.plain else 'enhanced'}-{seed}"
            )
            changes = [f"seed={seed}", f"classifier.keep_tokens={share}", f"classifier.fit.epochs={given.epochs}"]
            changes.append(f"classifier.shared_blocks={given.shared_blocks}")
            changes.append(f"classifier.enhance={str(not given.plain).lower()}")
            changes.append(f"generator.fit.epochs={given.generator_epochs}")
            fitted(version, run, "all" if is_guided(share) else "classifier", changes, cache_tokens=False)
            runs.append(run)
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    for measure in (kinds, tokens):
        one = commands.add_parser(measure.__name__)
        one.set_defaults(measure=measure)
        one.add_argument("version")
        one.add_argument("--out", type=Path, required=True)
        one.add_argument("--seeds", type=int, default=2)
        one.add_argument("--epochs", type=int, default=8)
    commands.choices["tokens"].add_argument("--shares", type=float, nargs="+", default=[1.0, 0.75, 0.5])
    commands.choices["tokens"].add_argument("--shared-blocks", type=float, default=0.0)
    commands.choices["tokens"].add_argument("--plain", action="store_true")
    commands.choices["tokens"].add_argument("--generator-epochs", type=int, default=2)
    given = parser.parse_args()
    runs = given.measure(given.version, given)
    images, predictors = resolve_targets([str(run) for run in runs], None, None, None, False, {})
    print_evaluation(evaluate(images, predictors, protocols_named("locloc")))


if __name__ == "__main__":
    main()
