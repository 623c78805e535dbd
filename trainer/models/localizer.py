"""A trained run at inference: frozen backbone, what draws maps and what names classes, on one device.

    Localiser.maps     (B, map_px, map_px, 3) uint8      > (B, h, w) float32
    Localiser.logits   (B, class_px, class_px, 3) uint8  > (B, K) float32

LocLoc is GEG and LFDM, PPD its decoder and its linear classifier; a run may hold one of the two alone. No dask, zarr or
icechunk in here: it runs on a bare GPU machine.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ...pipeline.backbones.spec import BackboneSpec
from ...pipeline.backbones.vit import Backbone
from ...pipeline.errors import TrainError, did_you_mean
from ...pipeline.geometry.resize_crop import ResizeCrop
from ...pipeline.masks.pseudo_mask import working_geometry
from ...pipeline.recipe import ImageSettings, Recipe
from .checkpoint import load_checkpoint
from .ppd import LAST_CLS
from .token_selection import is_guided, kept_tokens

TASKS_BY_KIND = {"locloc": ("generator", "classifier"), "ppd": ("decoder", "linear")}
"""Kinds of run: the folder of what draws maps, and of what names classes."""

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

RESIZE_PX = 256
"""The short side before the central square is cut, where a header does not tell: as in every released code."""

UNKNOWN_TAU = 0.5

WEIGHTS = "best.safetensors"

Rgb = np.ndarray | Tensor


class Localizer:
    """The models of one run in eval mode. `load_localiser` makes it.

    kind             "locloc" or "ppd"
    headers          what each stage's checkpoint tells of itself, by the stage's name
    classes, count   names of the classes, empty where they are not known; how many, 0 without a classifier
    tau              threshold of a map between its minimum and maximum: the best on the validation images, else 0.5
    map_px           side of the whole square that `maps` takes
    class_px         side of the central square that `logits` takes, cut when the short side is `class_resize_px`
    images           how an image becomes a square, and how many pixels it may have
    backbone         the frozen ViT at `map_px`; `class_backbone` at `class_px`, the same object where the sizes agree
    """

    def __init__(
        self,
        kind: Literal["locloc", "ppd"],
        models: dict[str, tuple[nn.Module, dict[str, Any]]],
        backbones: dict[int, Backbone],
        device: torch.device,
        precision: str,
    ):
        """models: by stage, with their headers; backbones: by the side of their input."""
        self.kind, self.device, self.precision = kind, device, precision
        self.headers = {stage: header for stage, (_, header) in models.items()}
        mapper, namer = (models.get(stage, (None, {})) for stage in TASKS_BY_KIND[kind])
        self._mapper, self._namer = _placed(mapper[0], device), _placed(namer[0], device)
        self.has_maps, self.has_classes = self._mapper is not None, self._namer is not None
        of_maps, of_classes = mapper[1] or namer[1], namer[1] or mapper[1]
        self.images = ImageSettings.model_validate(of_maps.get("images", {}))
        self.tau = float(mapper[1].get("figures", {}).get("tau", UNKNOWN_TAU))
        self.count = int(namer[1]["shape"]["classes"]) if self.has_classes else 0
        names = tuple(namer[1].get("classes", ()))
        self.classes = names if len(names) == self.count else ()
        self.map_px, self.class_px = int(of_maps["backbone_size_px"]), int(of_classes["backbone_size_px"])
        self.class_resize_px = int(
            namer[1].get("recipe", {}).get(TASKS_BY_KIND[kind][1], {}).get("resize_px", RESIZE_PX)
        )
        self.backbone, self.class_backbone = backbones[self.map_px], backbones[self.class_px]
        self._recipe = Recipe(images=self.images)

    def map_geometry(self, source_px: tuple[int, int]) -> ResizeCrop:
        """An image of `source_px` (width, height) as the square that `maps` takes: as the run's masks were made."""
        return working_geometry(np.array(source_px), self._recipe, self.map_px)

    def class_geometry(self, source_px: tuple[int, int]) -> ResizeCrop:
        """The same for `logits`: short side to `class_resize_px`, the central square of `class_px`."""
        return ResizeCrop.centre_crop(source_px, self.class_px, self.class_resize_px)

    @property
    def one_square(self) -> bool:
        """Whether maps and logits may be asked of the same pixels."""
        return self.has_maps and self.has_classes and self.map_px == self.class_px

    @property
    def guided(self) -> bool:
        """Whether maps say which tokens the classifier looks at (trainer/guided.py); then logits cost maps too."""
        return self.kind == "locloc" and self.has_classes and is_guided(self._namer.keep_tokens)

    @torch.inference_mode()
    def maps(self, rgb: Rgb) -> Tensor:
        """Squares `(B, map_px, map_px, 3) uint8` > maps `(B, h, w) float32`; LocLoc's in (0, 1), PPD's unbounded."""
        return self._maps_of(self.backbone.patch_features(rgb))

    @torch.inference_mode()
    def logits(self, rgb: Rgb) -> Tensor:
        """Squares `(B, class_px, class_px, 3) uint8` > logits `(B, K) float32`."""
        if self.kind == "ppd":
            return self._logits_of(self.class_backbone.last_cls_tokens(rgb, LAST_CLS))
        if self.guided:
            embedded, features = self.class_backbone.embed_and_patch_features(rgb, self._namer.shared_blocks)
            return self._logits_of(embedded, self._maps_of(features))
        return self._logits_of(self.class_backbone.embed(rgb, self._namer.shared_blocks))

    @torch.inference_mode()
    def both(self, rgb: Rgb) -> tuple[Tensor, Tensor]:
        """The same squares > maps and logits, where `one_square`. LocLoc embeds them once for both."""
        if self.kind == "ppd":
            return self.maps(rgb), self.logits(rgb)
        embedded, features = self.backbone.embed_and_patch_features(rgb, self._namer.shared_blocks)
        maps = self._maps_of(features)
        return maps, self._logits_of(embedded, maps if self.guided else None)

    def _maps_of(self, features: Tensor) -> Tensor:
        if self.kind == "ppd":
            features = self.backbone.norm_features(features)
        with self._autocast():
            return self._mapper(features.contiguous(memory_format=torch.channels_last))[:, 0].float()

    def _logits_of(self, tokens: Tensor, maps: Tensor | None = None) -> Tensor:
        """`maps` choose the tokens of guided LFDM."""
        keep = () if maps is None else (kept_tokens(maps, self._namer.grid, self._namer.keep_tokens),)
        with self._autocast():
            return self._namer(tokens, *keep).float()

    def _autocast(self) -> torch.autocast:
        dtype = PRECISIONS[self.precision]
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)


def load_localizer(
    run: Path | str,
    device: str = "auto",
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    models: Literal["auto", "locloc", "ppd"] = "auto",
    backbone: str | None = None,
    weights: str | None = None,
) -> Localizer:
    """The best weights of a RUN of `locloc train` or `locloc weights import`.

    device    "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1"
    models    which of a folder that holds both; "auto": LocLoc's, where there are any
    backbone  a timm name, for imported files, which do not hold theirs
    weights   file of the backbone's weights, where they are now; "random" for trying the machinery

    Raises TrainError, BackboneError in one line for whatever is not there or does not fit.
    """
    run, where = Path(run), _device(device, precision)
    kind, stages = _found(run, models)
    loaded = {stage: load_checkpoint(run / stage / WEIGHTS) for stage in stages}
    known = _backbone_of(run, [header for _, header in loaded.values()], backbone, weights)
    sizes = {int(header["backbone_size_px"]) for _, header in loaded.values()}
    backbones = {size: Backbone(replace(known, size_px=size, precision=precision), str(where)) for size in sizes}
    if "generator" not in loaded and is_guided(getattr(loaded.get("classifier", (None,))[0], "keep_tokens", 1.0)):
        raise TrainError(
            f"{run}/classifier looks at the tokens that its generator's maps choose, and {run}/generator has no "
            f"{WEIGHTS}; put the generator it was trained with there"
        )
    for stage, (_, header) in loaded.items():
        _check_fits(run / stage, header["shape"], backbones[int(header["backbone_size_px"])])
    return Localizer(kind, loaded, backbones, where, precision)


def _device(name: str, precision: str) -> torch.device:
    if precision not in PRECISIONS:
        raise TrainError(f"No precision {precision!r}{did_you_mean(precision, PRECISIONS)}")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise TrainError(f"No device {name!r}; auto, cpu, cuda and cuda:1 are some") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise TrainError(f"--device {name}, but this machine has {torch.cuda.device_count()} GPUs")
    if device.type == "cpu" and precision == "fp16":
        raise TrainError("--precision fp16 needs a GPU; on a CPU use fp32 or bf16")
    return device


def _found(run: Path, models: str) -> tuple[Literal["locloc", "ppd"], list[str]]:
    """Which kind, and those of its stages that have weights."""
    if models not in ("auto", *TASKS_BY_KIND):
        raise TrainError(f"No models {models!r}{did_you_mean(models, ('auto', *TASKS_BY_KIND))}")
    for kind, stages in TASKS_BY_KIND.items():
        there = [stage for stage in stages if (run / stage / WEIGHTS).is_file()]
        if there and models in ("auto", kind):
            return kind, there
    wanted = [stage for kind, stages in TASKS_BY_KIND.items() if models in ("auto", kind) for stage in stages]
    raise TrainError(
        f"{run} holds no {'/'.join(wanted)} with {WEIGHTS}; `locloc train STORE@V --out RUN` makes a run, "
        "`locloc weights import FILE --out RUN` makes one of released weights"
    )


def _backbone_of(run: Path, headers: list[dict[str, Any]], backbone: str | None, weights: str | None) -> BackboneSpec:
    """That of the masks the run was trained on, by the digest of its weights, or the one that is named."""
    about = next((header["backbone"] for header in headers if "sha256" in header["backbone"]), None)
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
    if backbone not in (None, about["name"]):
        raise TrainError(f"{run} was trained on {about['name']}, not {backbone}; leave --backbone out")
    weights = weights or (None if about["weights"] in ("bundled", "hub") else about["weights"])
    if weights not in (None, "random") and not Path(weights).is_file():
        raise TrainError(f"The backbone's weights are no longer at {weights}; name their file with --weights")
    return BackboneSpec(about["name"], weights=weights, sha256=about["sha256"])


def _check_fits(folder: Path, shape: dict[str, Any], backbone: Backbone) -> None:
    """TrainError where a model was made for another ViT's tokens."""
    if "vit" in shape:
        wanted = (shape["vit"]["embed_dim"], shape["vit"]["num_prefix_tokens"], *shape["grid"])
        found = (backbone.width, backbone.prefix, *backbone.grid)
        names = "width, prefix tokens and grid"
    else:
        wanted, found, names = (shape["channels"],), (backbone.width,), "width"
    if found != wanted:
        raise TrainError(
            f"{folder} takes tokens of {names} {_listed(wanted)}, but {backbone.name} at {backbone.size_px} px gives "
            f"{_listed(found)}; name the ViT that it was trained on with --backbone"
        )


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))


def _placed(model: nn.Module | None, device: torch.device) -> nn.Module | None:
    """Frozen on the device. Channels last: a third faster for convolutions, on CPUs and GPUs."""
    if model is None:
        return None
    return model.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
