"""The TOML file of a recipe that was found. Its first lines say where the settings come from."""

from pathlib import Path

from .... import __version__
from ...config import is_recipe_file, settings_toml
from ...errors import RecipeError, os_error_reason
from ...io.console import one_line
from ...io.outputs import check_output_file, write_output
from .tune import TunedRecipe, TuneReport


def check_recipe_file(file: Path) -> None:
    """Raises RecipeError for a file that cannot be written, or that `--recipe` would not take for a file."""
    if not is_recipe_file(str(file)) or not file.name.endswith(".toml"):
        raise RecipeError(f"--out {file}: the name of a recipe's file ends in .toml")
    check_output_file(file, "--out", RecipeError)


def write_recipe(report: TuneReport, file: Path) -> None:
    """Writes the winner, whole or not at all. Raises RecipeError."""
    try:
        write_output(file, recipe_text(report))
    except OSError as error:
        raise RecipeError(f"--out {file} cannot be written: {os_error_reason(error)}; name another file") from None


def recipe_text(report: TuneReport) -> str:
    """Every setting of the winner as TOML, below comments with store, split, figures, trials and seed."""
    winner, own = report.winner, report.known[0]
    lines = [
        f"Found by `locloc masks tune {report.version} --truth {report.truth}`, locloc {__version__}: {winner.name}.",
        f"{_figures(winner)}, on {report.images} images of the split {report.split}.",
        f"{_figures(own)} with the version's own recipe; {report.metric} gained {gain_text(report)}.",
        f"The best by {report.metric} of {report.trials} trials, seed {report.seed}, and {len(report.known)} recipes.",
        "The figures are those of the images it was chosen on: score images of another split to say what it is worth.",
    ]
    return "".join(f"# {one_line(line)}\n" for line in lines) + "\n" + settings_toml(winner.recipe)


def gain_text(report: TuneReport) -> str:
    """`"+1.2 +- 0.3 points"`: over the version's own recipe, with the standard error over the images."""
    return f"{100 * report.gain:+.1f} +- {100 * report.gain_error:.1f} points"


def _figures(one: TunedRecipe) -> str:
    figures = {"mask IoU": one.mask_iou, "box IoU": one.box_iou, "CorLoc": one.corloc}
    return ", ".join(f"{name} {value:.4f}" for name, value in figures.items() if value is not None)
