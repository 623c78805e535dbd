"""The model card of a run: README.md with front matter, as the Hugging Face hub reads it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ...pipeline.backbones.create import BUNDLED
from ..models.localizer import Localizer
from .script import render

TAGS = ["locloc", "weakly-supervised-object-localization", "object-localization"]
SHOWN_CLASSES = 20


@dataclass(frozen=True)
class Stage:
    """A model of the run, for the card."""

    task: str
    settings: str  # "tapered, 20 epochs, batches of 256"; empty for imported weights
    validation: str  # "cor_loc 0.812, loss 0.1"


@dataclass(frozen=True)
class Figure:
    """A metric of the run under a protocol. swept: with a threshold chosen on the very images."""

    protocol: str
    metric: str
    value: float
    swept: bool


def model_card(
    localizer: Localizer, name: str, headers: dict[str, dict[str, Any]], evaluation: dict[str, Any] | None
) -> str:
    """The card of a run called `name`. headers: of its checkpoints, by task; evaluation: JSON of `locloc eval`."""
    header = next(iter(headers.values()))
    figures = [] if evaluation is None else run_figures(evaluation, name)
    backbone = header["backbone"]
    return render(
        "README.md.j2",
        front=_front_matter(localizer, name, backbone, figures, evaluation),
        name=name,
        localizer=localizer,
        backbone=backbone,
        header=header,
        classes=[*localizer.classes[:SHOWN_CLASSES]] + ["..."] * (len(localizer.classes) > SHOWN_CLASSES),
        stages=[_stage(task, each) for task, each in headers.items()],
        figures=figures,
        evaluation=evaluation,
        evaluated_on="" if evaluation is None else _dataset(evaluation),
    )


def run_figures(evaluation: dict[str, Any], name: str) -> list[Figure]:
    """The figures of the run called `name`, or of the one run that was evaluated; shares from 0 to 1."""
    results = evaluation["results"]
    runs = {key: value for key, value in results.items() if Path(key).name == name}
    if not runs:
        others = {key: value for key, value in results.items() if not key.startswith("masks of ")}
        runs = {key: value for key, value in others.items() if key != "centred box"}
    if len(runs) != 1:
        return []
    figures = []
    for protocol, metrics in next(iter(runs.values())).items():
        for metric, value in metrics.items():
            if isinstance(value, float) and metric != "tau" and math.isfinite(value):
                figures.append(Figure(protocol, metric, value, bool(metrics.get("swept_on_test"))))
    return figures


def _front_matter(
    localizer: Localizer,
    name: str,
    backbone: dict[str, Any],
    figures: list[Figure],
    evaluation: dict[str, Any] | None,
) -> str:
    """YAML without a licence, which the user states."""
    results = [
        EvalResult(
            task_type="image-segmentation" if localizer.has_maps else "image-classification",
            dataset_type=_dataset(evaluation),
            dataset_name=_dataset(evaluation),
            dataset_split=evaluation["split"],
            metric_type=figure.metric,
            metric_name=f"{figure.metric} ({figure.protocol})",
            metric_value=round(figure.value, 4),
        )
        for figure in figures
        if evaluation is not None and not figure.swept
    ]
    published = backbone["weights"] == "hub" and backbone["name"] not in BUNDLED
    hub_name = backbone["name"].removeprefix("hf-hub:")
    data = ModelCardData(
        library_name="locloc",
        pipeline_tag="image-segmentation" if localizer.has_maps else "image-classification",
        tags=TAGS,
        base_model=(hub_name if "/" in hub_name else f"timm/{hub_name}") if published else None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    text: str = data.to_yaml()
    return text


def _stage(task: str, header: dict[str, Any]) -> Stage:
    settings = header.get("recipe", {}).get(task, {})
    said = ""
    if "fit" in settings:
        fit = settings["fit"]
        said = f"{fit['epochs']} epochs, batches of {fit['batch_size']}, {fit['optimizer']}, {fit['schedule']} rate"
        if "kind" in settings:
            said = f"{settings['kind']}, {said}"
    elif "released" in header:
        said = f"imported from the released file {header['released']}"
    numbers = {key: value for key, value in header.get("figures", {}).items() if isinstance(value, int | float)}
    return Stage(task, said, ", ".join(f"{key} {value:.4g}" for key, value in numbers.items()))


def _dataset(evaluation: dict[str, Any] | None) -> str:
    """The name of the evaluated images, without the path to them."""
    return "unknown" if evaluation is None else Path(str(evaluation.get("from", "unknown"))).name or "unknown"
