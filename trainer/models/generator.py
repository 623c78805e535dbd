"""GEG, the generator: patch tokens of a frozen ViT > a map of the object (LocLoc, ACM MM 2023).

    (B, D, h, w)  patch tokens of the last block, before its norm
     UNet         3 steps down, 3 up                    (B, width, h, w)
     3 x ConvTranspose 4x4, stride 2, BN, ReLU          (B, tail[-1], 8h, 8w)
     Sigmoid(BN(Conv3x3))                               (B, 1, 8h, 8w), in (0, 1)

B images, D width of the ViT, h x w token grid, of any size from 1 x 1 on.
"""

from typing import Literal, TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import BN_MOMENTUM


class GeneratorSize(TypedDict):
    base: int
    tail: tuple[int, int, int]
    width: int


GENERATORS: dict[str, GeneratorSize] = {
    "paper": {"base": 4, "tail": (256, 256, 256), "width": 200},
    "tapered": {"base": 16, "tail": (128, 64, 32), "width": 128},
}
"""Sizes by kind. `paper`: 4.05 M parameters and 4.51 GMAC at 384 x 14 x 14, most of it in the transposed convolutions.
`tapered` has a wider UNet and narrower transposed convolutions: 1.68 M and 0.40 GMAC, a twelfth of the arithmetic."""


class Generator(nn.Module):
    """Patch tokens `(B, D, h, w) float` > maps `(B, 1, 8h, 8w)` in (0, 1).

    channels  D
    base      the UNet has 2, 4 and 8 times as many channels on its way down, 4, 3 times on its way up
    width     channels of the UNet's output
    tail      channels of the three transposed convolutions
    wiring    "mended", or "published": in the published code the second step up takes a skip connection instead of
              the first step's output, so the third step down and the first step up never get a gradient
    bn_momentum  momentum of the UNet's batch norms
    """

    def __init__(
        self,
        channels: int,
        base: int,
        width: int,
        tail: tuple[int, int, int],
        wiring: Literal["mended", "published"] = "mended",
        bn_momentum: float = BN_MOMENTUM,
    ):
        super().__init__()
        self.unet = UNet(channels, base, width, wiring)
        for module in self.unet.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = bn_momentum
        inputs = (width, *tail[:-1])
        self.up = nn.ModuleList(_deconvolution(*pair) for pair in zip(inputs, tail, strict=True))
        self.head = nn.Sequential(nn.Conv2d(tail[-1], 1, 3, padding=1, bias=False), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, tokens: Tensor) -> Tensor:
        features = self.unet(tokens)  # (B, width, h, w)
        for step in self.up:
            features = step(features)
        return self.head(features)


class UNet(nn.Module):
    """`(B, D, h, w)` > `(B, width, h, w)`. Each step down halves the grid, to no less than 1 (14 > 7 > 3 > 1)."""

    def __init__(self, channels: int, base: int, width: int, wiring: str):
        super().__init__()
        self.wiring = wiring
        down = (2 * base, 4 * base, 8 * base)
        self.down = nn.ModuleList(_two_convolutions(*pair) for pair in zip((channels, *down), down, strict=False))
        self.up = nn.ModuleList([
            _two_convolutions(down[2] + down[1], 4 * base),
            _two_convolutions(4 * base + down[0], 3 * base),
            _two_convolutions(3 * base + channels, width),
        ])  # fmt: skip

    def forward(self, tokens: Tensor) -> Tensor:
        skips = [tokens]
        for step in self.down:
            skips.append(step(_downsample(skips[-1])))
        first = self.up[0](_upsample_and_concat(skips[3], skips[2]))
        second = self.up[1](_upsample_and_concat(skips[2] if self.wiring == "published" else first, skips[1]))
        return self.up[2](_upsample_and_concat(second, skips[0]))


def create_generator(kind: str, channels: int, wiring: Literal["mended", "published"] = "mended") -> Generator:
    """Creates one of GENERATORS for tokens of `channels`."""
    return Generator(channels, wiring=wiring, **GENERATORS[kind])


def _downsample(features: Tensor) -> Tensor:
    high, wide = features.shape[-2:]
    return F.max_pool2d(features, (min(2, high), min(2, wide)))


def _upsample_and_concat(low: Tensor, skip: Tensor) -> Tensor:
    """Resizes the coarser features to the size of the finer ones and concatenates both."""
    return torch.cat([F.interpolate(low, size=skip.shape[-2:], mode="bilinear"), skip], dim=1)


def _two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.LeakyReLU(0.01),
        ]
    return nn.Sequential(*layers)


def _deconvolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
