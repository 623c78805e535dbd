"""A run as one torch module: images in; map, mask and logits out.

B images, S side of the square that maps are drawn of, C side of the classifier's square, K classes.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.localizer import Localizer

IMAGES, CLASS_IMAGES = "images", "class_images"
MAP, MASK, LOGITS = "map", "mask", "logits"


@dataclass(frozen=True)
class InputSquare:
    """An input `(B, size_px, size_px, 3) uint8`, RGB, and how an image becomes one.

    fit        "stretch": the whole image; "centre_crop": the short side to `resize_px`, then the central square
    resize_px  None with "stretch"
    """

    name: str
    size_px: int
    fit: str
    resize_px: int | None

    @property
    def shown_px(self) -> int:
        """The side of the central square of the image, scaled to `resize_px`, that the input shows."""
        return self.resize_px or self.size_px


class RunGraph(nn.Module):
    """`forward(images[, class_images])` > those of map, mask and logits that the run has, in this order.

    images        `(B, S, S, 3) uint8` RGB; normalised within. A run without a generator takes the classifier's square
    class_images  `(B, C, C, 3) uint8`, only where the classifier's side differs, or with `own_class_square`
    map           `(B, S, S) float32`: the model's map, resized bilinearly
    mask          `(B, S, S) bool`: the map, scaled to 0..1 by its minimum and maximum, above `tau`
    logits        `(B, K) float32`
    """

    def __init__(self, localizer: Localizer, tau: float, own_class_square: bool = False):
        """own_class_square: the classifier has an input of its own, although the map's square has its size."""
        super().__init__()
        self.localizer, self.tau, self.own_class_square = localizer, tau, own_class_square
        self.parts = nn.ModuleList(localizer.modules())

    @property
    def inputs(self) -> list[InputSquare]:
        localizer = self.localizer
        classes = InputSquare(IMAGES, localizer.class_px, "centre_crop", localizer.class_resize_px)
        if not localizer.has_maps:
            return [classes]
        fit = localizer.images.fit
        maps = InputSquare(IMAGES, localizer.map_px, fit, localizer.map_px if fit == "centre_crop" else None)
        if not localizer.has_classes or (localizer.one_square and not self.own_class_square):
            return [maps]
        return [maps, InputSquare(CLASS_IMAGES, classes.size_px, classes.fit, classes.resize_px)]

    @property
    def outputs(self) -> list[str]:
        return [MAP, MASK] * self.localizer.has_maps + [LOGITS] * self.localizer.has_classes

    def forward(self, images: Tensor, class_images: Tensor | None = None) -> tuple[Tensor, ...]:
        localizer = self.localizer
        if not localizer.has_maps:
            return (localizer.traced_logits(images),)
        if not localizer.has_classes:
            return self._map_and_mask(localizer.traced_maps(images))
        if class_images is None:
            maps, logits = localizer.traced_both(images)
        else:
            maps, logits = localizer.traced_maps(images), localizer.traced_logits(class_images)
        return (*self._map_and_mask(maps), logits)

    def example(self, batch: int, seed: int = 0) -> tuple[Tensor, ...]:
        """Smooth random inputs, which are more like photographs than noise."""
        generator = torch.Generator().manual_seed(seed)
        squares = []
        for square in self.inputs:
            coarse = torch.rand(batch, 3, 9, 9, generator=generator) * 255
            fine = F.interpolate(coarse, size=(square.size_px, square.size_px), mode="bicubic").clamp(0, 255)
            squares.append(fine.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous())
        return tuple(squares)

    def description(self) -> dict[str, Any]:
        """What a user of the graph has to know, as JSON."""
        localizer, backbone = self.localizer, self.localizer.backbone
        return {
            "kind": localizer.kind,
            "inputs": {
                square.name: {
                    "shape": ["batch", square.size_px, square.size_px, 3],
                    "content": "uint8 RGB, 0 to 255, of upright images; normalised by the graph",
                    "size_px": square.size_px,
                    "fit": square.fit,
                    "resize_px": square.resize_px,
                    "resample": "bicubic, with antialiasing",
                }
                for square in self.inputs
            },
            "outputs": self.outputs,
            "normalisation": {"mean": backbone.mean, "std": backbone.std},
            "tau": self.tau,
            "classes": list(localizer.classes),
            "backbone": backbone.name,
        }

    def _map_and_mask(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Maps `(B, h, w)` > the same at the side of the images, and masks."""
        side_px = self.localizer.map_px
        resized = F.interpolate(maps[:, None], size=(side_px, side_px), mode="bilinear")[:, 0]
        low, high = resized.amin((1, 2), keepdim=True), resized.amax((1, 2), keepdim=True)
        return resized, resized - low > self.tau * (high - low)
