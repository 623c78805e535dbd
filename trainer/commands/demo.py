"""`locloc demo`: runs the real commands in sequence on synthetic scenes."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path

from ...pipeline.commands.rendering.versions import version_summary
from ...pipeline.errors import CatalogError
from ...pipeline.inspect.score import score_version
from ...pipeline.io.output_folder import Results, create_output_folder
from ...pipeline.store import open_version

IMAGES, CLASSES, SEED = 128, 10, 7
TRAINED = ("generator", "classifier")
SHOWN = ("000003", "000008", "000013", "000022", "000031", "000044")

DEMO = Results(r"(scenes|masks\.store|run)(/.*)?|masks\.png|summary\.json", "scenes/list.csv")


def demo_commands(out: Path) -> list[list[str]]:
    """The arguments of each `locloc` command, in order, as one would type them.

    Makes `out`, which is new, empty or of an earlier demo. Raises CatalogError for any other.
    """
    create_output_folder(out, "OUT", CatalogError, DEMO, keep=True)
    scenes, store = out / "scenes", out / "masks.store"
    lines = [
        f"data synth {{scenes}} --images {IMAGES} --classes {CLASSES} --seed {SEED}",
        "masks build {scenes} --catalog synthetic --store {store}",
        "masks list {store}",
        "masks show {store}@latest",
        "masks score {store}@latest --truth {scenes}/masks",
        "masks view {store}@latest " + " ".join(SHOWN) + " --truth {scenes}/masks --out {out}/masks.png",
        "train {store}@latest --out {out}/run --cache-tokens --workers 0 --set classifier.fit.epochs=5",
    ]
    if (scenes / "list.csv").exists():  # the demo was run before
        lines[0] += " --overwrite"
    if (out / "run" / "run.json").exists():
        lines[-1] += " --resume"
    places = {"scenes": shlex.quote(str(scenes)), "store": shlex.quote(str(store)), "out": shlex.quote(str(out))}
    return [shlex.split(line.format(**places)) for line in lines]


def write_demo_summary(out: Path) -> None:
    """Writes `OUT/summary.json`: the version's counts and provenance, its scores, and the trained models' metrics."""
    version = open_version(f"{out / 'masks.store'}@latest")
    report = score_version(version, str(out / "scenes" / "masks"))
    trained = {stage: _last(out / "run" / stage / "metrics.jsonl") for stage in TRAINED}
    summary = {**version_summary(version), "score": asdict(report), "trained": trained}
    (out / "summary.json").write_text(json.dumps(summary, indent=2))


def _last(metrics: Path) -> dict:
    """The validation metrics of the last epoch."""
    ends = (line for line in map(json.loads, metrics.read_text().splitlines()) if "val_loss" in line)
    return {name.removeprefix("val_"): value for name, value in list(ends)[-1].items() if name.startswith("val_")}
