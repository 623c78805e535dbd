"""A trained run at inference: the frozen backbone, the model of maps and the model of classes, on one device.

    Localizer.maps     (B, map_px, map_px, 3) uint8      > (B, h, w) float32
    Localizer.logits   (B, class_px, class_px, 3) uint8  > (B, K) float32

LocLoc is GEG and LFDM, PPD its decoder and its linear classifier; a run may hold one of the two alone. Imports no dask,
zarr or icechunk: it runs on a bare GPU machine.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...pipeline.backbones.precision import auto_precision, why_no_precision
from ...pipeline.backbones.spec import BackboneSpec, canonical_name, recorded_weights
from ...pipeline.backbones.tf32 import float32_products
from ...pipeline.backbones.vit import Backbone
from ...pipeline.errors import TrainError, check_known
from ...pipeline.geometry.resize_crop import ResizeCrop
from ...pipeline.masks.pseudo_mask import working_geometry
from ...pipeline.recipe import ImageSettings, Recipe
from . import is_guided
from .checkpoint import load_checkpoint
from .classifier import Classifier
from .hub_runs import run_folder
from .ppd import LAST_CLS
from .run_tasks import TASKS_BY_KIND, WEIGHTS, Kind, find_tasks
from .token_selection import select_tokens

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

RESIZE_PX = 256
"""Short side before the central crop, where the header has none: as in all released code."""

DEFAULT_TAU = 0.5

Rgb = np.ndarray | Tensor


class Localizer:
    """The models of one run in eval mode. Create it with `load_localizer`.

    kind             "locloc" or "ppd"
    headers          the checkpoints' headers by task
    classes, count   names of the classes, empty if unknown; their number, 0 without a classifier
    tau              threshold of a min-max normalised map: the best one on the validation images, else 0.5
    map_px           side of the square that `maps` takes
    class_px         side of the central square that `logits` takes, cropped after the short side is `class_resize_px`
    images           how an image becomes a square, and the largest number of pixels it may have
    backbone         the frozen ViT at `map_px`; `class_backbone` at `class_px`, the same object if the sizes are equal
    """

    def __init__(
        self,
        kind: Kind,
        models: dict[str, tuple[nn.Module, dict[str, Any]]],
        backbones: dict[int, Backbone],
        device: torch.device,
        precision: str,
    ):
        """models: with their headers, by task; backbones: by the side of their input."""
        self.kind, self.device, self.precision = kind, device, precision
        self.headers = {task: header for task, (_, header) in models.items()}
        map_task, class_task = TASKS_BY_KIND[kind]
        self._map_model = _frozen(models[map_task][0], device) if map_task in models else None
        self._class_model = _frozen(models[class_task][0], device) if class_task in models else None
        self.has_maps, self.has_classes = self._map_model is not None, self._class_model is not None
        map_header, class_header = self.headers.get(map_task, {}), self.headers.get(class_task, {})
        self.images = ImageSettings.model_validate((map_header or class_header).get("images", {}))
        self.tau = float(map_header.get("figures", {}).get("tau", DEFAULT_TAU))
        self.count = int(class_header["shape"]["classes"]) if self.has_classes else 0
        names = tuple(class_header.get("classes", ()))
        self.classes = names if len(names) == self.count else ()
        self.map_px = int((map_header or class_header)["backbone_size_px"])
        self.class_px = int((class_header or map_header)["backbone_size_px"])
        recorded = class_header.get("recipe", {}).get(class_task, {}).get("resize_px", RESIZE_PX)
        self.class_resize_px = int(class_header.get("resize_px", recorded))  # older headers lack it
        self.backbone, self.class_backbone = backbones[self.map_px], backbones[self.class_px]
        self._recipe = Recipe(images=self.images)

    def map_geometry(self, source_px: tuple[int, int]) -> ResizeCrop:
        """Maps an image of `source_px` (width, height) to the square that `maps` takes, as the masks were made."""
        return working_geometry(np.array(source_px), self._recipe, self.map_px)

    def class_geometry(self, source_px: tuple[int, int]) -> ResizeCrop:
        """The same for `logits`: short side to `class_resize_px`, then the central square of `class_px`."""
        return ResizeCrop.centre_crop(source_px, self.class_px, self.class_resize_px)

    @property
    def one_square(self) -> bool:
        """Whether `maps` and `logits` take squares of the same size."""
        return self.has_maps and self.has_classes and self.map_px == self.class_px

    @property
    def guided(self) -> bool:
        """Whether the maps select the classifier's tokens (token_selection.py); then logits need maps too."""
        return isinstance(self._class_model, Classifier) and is_guided(self._class_model.keep_tokens)

    @torch.inference_mode()
    def maps(self, rgb: Rgb) -> Tensor:
        """Squares `(B, map_px, map_px, 3) uint8` > maps `(B, h, w) float32`; LocLoc's in (0, 1), PPD's unbounded."""
        return self.traced_maps(rgb)

    @torch.inference_mode()
    def logits(self, rgb: Rgb) -> Tensor:
        """Squares `(B, class_px, class_px, 3) uint8` > logits `(B, K) float32`."""
        return self.traced_logits(rgb)

    @torch.inference_mode()
    def both(self, rgb: Rgb) -> tuple[Tensor, Tensor]:
        """The same squares > maps and logits, if `one_square`. LocLoc runs the backbone once for both."""
        return self.traced_both(rgb)

    def traced_maps(self, rgb: Rgb) -> Tensor:
        """`maps` without inference mode, which `torch.export` does not trace."""
        return self._maps_of(self.backbone.patch_features(rgb))

    def traced_logits(self, rgb: Rgb) -> Tensor:
        """`logits` without inference mode."""
        if self.kind == "ppd":
            return self._logits_of(self.class_backbone.last_cls_tokens(rgb, LAST_CLS))
        if self.guided:
            embedded, features = self.class_backbone.embed_and_patch_features(rgb, self._classifier.shared_blocks)
            return self._logits_of(embedded, self._maps_of(features))
        return self._logits_of(self.class_backbone.embed(rgb, self._classifier.shared_blocks))

    def traced_both(self, rgb: Rgb) -> tuple[Tensor, Tensor]:
        """`both` without inference mode."""
        if self.kind == "ppd":
            return self.traced_maps(rgb), self.traced_logits(rgb)
        embedded, features = self.backbone.embed_and_patch_features(rgb, self._classifier.shared_blocks)
        maps = self._maps_of(features)
        return maps, self._logits_of(embedded, maps if self.guided else None)

    def modules(self) -> list[nn.Module]:
        """The models and ViTs, each once."""
        models = (self._map_model, self._class_model, self.backbone.model, self.class_backbone.model)
        return list(dict.fromkeys(model for model in models if model is not None))

    @property
    def _classifier(self) -> Classifier:
        """LFDM, in runs of LocLoc with a classifier."""
        assert isinstance(self._class_model, Classifier)
        return self._class_model

    def _maps_of(self, features: Tensor) -> Tensor:
        assert self._map_model is not None, "has_maps"
        if self.kind == "ppd":
            features = self.backbone.norm_features(features)
        with self._products():
            return self._map_model(features.contiguous(memory_format=torch.channels_last))[:, 0].float()

    def _logits_of(self, tokens: Tensor, maps: Tensor | None = None) -> Tensor:
        """maps: those that select the tokens of guided LFDM."""
        assert self._class_model is not None, "has_classes"
        keep = None if maps is None else select_tokens(maps, self._classifier.grid, self._classifier.keep_tokens)
        with self._products():
            logits = self._class_model(tokens) if keep is None else self._class_model(tokens, keep)
            return logits.float()

    @contextmanager
    def _products(self) -> Iterator[None]:
        """Products inside have the precision that was asked for."""
        dtype = PRECISIONS[self.precision]
        autocast = torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)
        with float32_products(self.precision), autocast:
            yield


def load_localizer(
    run: Path | str,
    device: str = "auto",
    precision: str = "fp32",
    models: str = "auto",
    backbone: str | None = None,
    weights: str | None = None,
) -> Localizer:
    """Loads the best weights of a RUN of `locloc train` or `locloc weights import`, or of `hf:USER/NAME`.

    device     "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1"
    precision  "fp32", "bf16", "fp16" or "tf32" (GPUs only), or "auto", what `auto_precision` takes on the device
    models     "locloc" or "ppd", for a run that holds both; "auto": LocLoc's if there are any
    backbone   a timm name, for imported weights, whose files do not hold the backbone
    weights    file of the backbone's weights, if they were moved; "random" to try the code without them

    Raises TrainError, BackboneError for anything that is missing or does not fit.
    """
    run, torch_device = Path(run), _checked_device(device, precision)
    if precision == "auto":
        precision = auto_precision(with_gpu=torch_device.type == "cuda").precision
    kind, tasks = find_tasks(run, models)
    loaded = {task: load_checkpoint(run_folder(run) / task / WEIGHTS) for task in tasks}
    spec = _backbone_spec(run, [header for _, header in loaded.values()], backbone, weights)
    sizes = {int(header["backbone_size_px"]) for _, header in loaded.values()}
    backbones = {size: Backbone(replace(spec, size_px=size, precision=precision), str(torch_device)) for size in sizes}
    if "generator" not in loaded and is_guided(getattr(loaded.get("classifier", (None,))[0], "keep_tokens", 1.0)):
        raise TrainError(
            f"{run}/classifier looks at the tokens that its generator's maps choose, and {run}/generator has no "
            f"{WEIGHTS}; put the generator it was trained with there"
        )
    for task, (_, header) in loaded.items():
        _check_fits(run / task, header["shape"], backbones[int(header["backbone_size_px"])])
    return Localizer(kind, loaded, backbones, torch_device, precision)


def _checked_device(name: str, precision: str) -> torch.device:
    check_known(TrainError, "precision", precision, (*PRECISIONS, "auto"))
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise TrainError(f"No device {name!r}; auto, cpu, cuda and cuda:1 are some") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise TrainError(f"--device {name}, but this machine has {torch.cuda.device_count()} GPUs")
    if (why := why_no_precision(precision, device.type != "cpu")) is not None:
        raise TrainError(f"--{why}")
    return device


def _backbone_spec(run: Path, headers: list[dict[str, Any]], backbone: str | None, weights: str | None) -> BackboneSpec:
    """The backbone that the run was trained on, checked by its weights' digest; for imported weights the named one."""
    trained_on = next((header["backbone"] for header in headers if "sha256" in header["backbone"]), None)
    imported = next((header for header in headers if "sha256" not in header["backbone"]), None)
    if weights not in (None, "random") and not Path(weights).is_file():
        raise TrainError(f"No weights file {weights}")
    if imported is not None:
        if backbone is None:
            raise TrainError(
                f"{run} was imported from {imported.get('released')}, which does not hold the ViT it was trained on: "
                f"name it, as in --backbone {imported['backbone']['name']} --weights FILE"
            )
        return BackboneSpec(backbone, weights=weights)
    assert trained_on is not None  # every header holds either a digest or an imported file
    if backbone is not None and canonical_name(backbone) != trained_on["name"]:
        raise TrainError(f"{run} was trained on {trained_on['name']}, not {backbone}; leave --backbone out")
    weights = weights or recorded_weights(trained_on)
    if weights is not None and (run_folder(run) / weights).is_file():  # of a run that was exported with its backbone
        weights = str(run_folder(run) / weights)
    if weights not in (None, "random") and not Path(weights).is_file():
        raise TrainError(f"The backbone's weights are no longer at {weights}; name their file with --weights")
    return BackboneSpec(trained_on["name"], weights=weights, sha256=trained_on["sha256"])


def _check_fits(folder: Path, shape: dict[str, Any], backbone: Backbone) -> None:
    """Raises TrainError if a model takes the tokens of another ViT."""
    expected: tuple[int, ...]
    actual: tuple[int, ...]
    if "vit" in shape:
        expected = (shape["vit"]["embed_dim"], shape["vit"]["num_prefix_tokens"], *shape["grid"])
        actual = (backbone.width, backbone.prefix, *backbone.grid)
        names = "width, prefix tokens and grid"
    else:
        expected, actual, names = (shape["channels"],), (backbone.width,), "width"
    if actual != expected:
        raise TrainError(
            f"{folder} takes tokens of {names} {', '.join(map(str, expected))}, but {backbone.name} at "
            f"{backbone.size_px} px gives {', '.join(map(str, actual))}; name the ViT that it was trained on with "
            "--backbone"
        )


def _frozen(model: nn.Module, device: torch.device) -> nn.Module:
    """Moves a model to the device, without gradients. Channels last: a third faster for convolutions."""
    return model.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
