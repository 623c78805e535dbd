"""locloc: object masks and boxes for images that only have class labels (after LocLoc, ACM MM 2023).

Everything a notebook needs is here and imported on first use: `import locloc` itself takes no torch, dask or zarr.
`docs/api.md` shows each name at work.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import build_masks as build_masks
    from .api import evaluate as evaluate
    from .api import refine_masks as refine_masks
    from .api import train as train
    from .pipeline.build.spec import BuildSummary as BuildSummary
    from .pipeline.recipe import Recipe as Recipe
    from .pipeline.store.reader import Version as Version
    from .pipeline.store.reader import open_version as open_version
    from .trainer.data.mask_dataset import MaskDataset as MaskDataset
    from .trainer.evaluation.evaluate import Evaluation as Evaluation
    from .trainer.export.run import export_run as export_run
    from .trainer.inference.predict import Prediction as Prediction
    from .trainer.inference.predict import Predictor as Predictor
    from .trainer.inference.predict import load as load
    from .trainer.recipe import TrainRecipe as TrainRecipe
    from .trainer.training.run import TrainSummary as TrainSummary

_HOMES = {
    "BuildSummary": ".pipeline.build.spec",
    "Evaluation": ".trainer.evaluation.evaluate",
    "MaskDataset": ".trainer.data.mask_dataset",
    "Prediction": ".trainer.inference.predict",
    "Predictor": ".trainer.inference.predict",
    "Recipe": ".pipeline.recipe",
    "TrainRecipe": ".trainer.recipe",
    "TrainSummary": ".trainer.training.run",
    "Version": ".pipeline.store.reader",
    "build_masks": ".api",
    "evaluate": ".api",
    "export_run": ".trainer.export.run",
    "load": ".trainer.inference.predict",
    "open_version": ".pipeline.store.reader",
    "refine_masks": ".api",
    "train": ".api",
}
"""The module of each public name."""

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("locloc")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name], __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
