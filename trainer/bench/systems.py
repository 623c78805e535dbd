"""The systems that are compared: PPD in four forms and LocLoc in three, with random weights, which cost the same.

B images, D width of the ViT, K classes, h x w token grid. All views are `(B, S, S, 3) uint8` on the model's device.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ...pipeline.backbones.pocket import MEAN, STD, create_pocket
from ...pipeline.backbones.vit import interpolate_positions
from ...pipeline.errors import BenchError, did_you_mean
from ..models.classifier import Classifier
from ..models.generator import create_generator
from ..models.ppd import LAST_CLS, Decoder, LinearClassifier
from ..models.token_selection import select_tokens, shared_block_count

SIZE_PX = 224
VIT = "vit_small_patch16_224"
SUGGESTED = ("pocket", "vit_tiny_patch16_224", VIT, "vit_base_patch16_224", "vit_large_patch16_224")
"""Named where a backbone is unknown; timm has some 80 of this kind."""

Lap = Callable[[str], None]


@dataclass(frozen=True)
class Form:
    """One system for localisation and classification."""

    name: str
    family: Literal["ppd", "locloc"]
    map_px: int = SIZE_PX  # side of the input for maps
    round_trip: bool = False  # patch tokens to NumPy and back before the decoder, as both published listings do
    shared: bool = False  # PPD: one pass of the ViT for maps and classes
    generator: str = ""  # LocLoc: kind of GEG
    keep_tokens: float = 1.0  # LocLoc: share of patch tokens that LFDM processes
    shared_blocks: float = 0.0  # LocLoc: share of LFDM's blocks that are the frozen ViT's

    @property
    def views_px(self) -> tuple[int, ...]:
        """Sides of an image's views: the central square, then PPD's stretched one."""
        return (SIZE_PX,) if self.family == "locloc" or self.shared else (SIZE_PX, self.map_px)


RELEASED, NO_TRIP, AT_224, SHARED = "PPD as released", "PPD, no round trip", "PPD at 224", "PPD at 224, one pass"
PAPER, TAPERED, GUIDED = "LocLoc paper", "LocLoc tapered", "LocLoc guided"


def forms(compare_ppd: bool, keep_tokens: float, shared_blocks: float) -> list[Form]:
    """In the order of the tables. `PPD at 224, one pass` was never published: it is the strongest baseline."""
    ppd = [
        Form(RELEASED, "ppd", 256, round_trip=True),
        Form(NO_TRIP, "ppd", 256),
        Form(AT_224, "ppd"),
        Form(SHARED, "ppd", shared=True),
    ]
    locloc = [
        Form(PAPER, "locloc", round_trip=True, generator="paper"),
        Form(TAPERED, "locloc", generator="tapered"),
        Form(GUIDED, "locloc", generator="tapered", keep_tokens=keep_tokens, shared_blocks=shared_blocks),
    ]
    return (ppd if compare_ppd else []) + locloc


class Ppd(nn.Module):
    """A ViT, run twice unless `shared`; a linear classifier on its CLS tokens, a decoder on its patch tokens."""

    def __init__(self, form: Form, vit: VisionTransformer, classes: int):
        super().__init__()
        self.form, self.frozen = form, Frozen(vit, form.map_px)
        self.linear = LinearClassifier(vit.embed_dim, classes)
        self.decoder = Decoder(vit.embed_dim)

    def tokens(self, *views: Tensor) -> tuple[Tensor, Tensor]:
        """One view or two > normed CLS tokens of the last blocks `(B, 4 D)`, and normed patch tokens `(B, D, h, w)`."""
        depth = len(self.frozen.vit.blocks)
        last = self.frozen(views[0], *range(depth - LAST_CLS + 1, depth + 1))
        patches = last[-1]
        if len(views) > 1:
            (patches,) = self.frozen(views[1], depth)
        norm = self.frozen.vit.norm
        return torch.cat([norm(tokens[:, 0]) for tokens in last], dim=1), self.frozen.square(norm(patches))

    def classes(self, cls: Tensor) -> Tensor:
        return self.linear(cls)

    def maps(self, patches: Tensor) -> Tensor:
        return self.decoder(patches)

    def infer(self, views: tuple[Tensor, ...], lap: Lap) -> tuple[Tensor, Tensor]:
        """Logits `(B, K)` and maps `(B, 1, H, W)`."""
        cls, patches = self.tokens(*views)
        lap("backbone")
        logits = self.classes(cls)
        lap("classifier")
        maps = self.maps(round_trip(patches) if self.form.round_trip else patches)
        lap("generator")
        return logits, maps


class LocLoc(nn.Module):
    """A ViT, run once; GEG on its patch tokens, LFDM on its embedded tokens or those after the shared blocks.

    LFDM processes all tokens, or those that GEG's maps select.
    """

    def __init__(self, form: Form, vit: VisionTransformer, classes: int):
        super().__init__()
        self.form, self.frozen = form, Frozen(vit, SIZE_PX)
        self.generator = create_generator(form.generator, vit.embed_dim)
        shared = shared_block_count(len(vit.blocks), form.shared_blocks)
        self.classifier = Classifier(vit, classes, vit.patch_embed.grid_size, form.keep_tokens, shared)

    def tokens(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """A view > the tokens that LFDM takes `(B, 1 + T, D)` and patch tokens `(B, D, h, w)`."""
        shared, last = self.frozen(view, self.classifier.shared_blocks, len(self.frozen.vit.blocks))
        return shared, self.frozen.square(last)

    def maps(self, patches: Tensor) -> Tensor:
        return self.generator(patches)

    def classes(self, shared: Tensor, maps: Tensor) -> Tensor:
        return self.classifier(shared, select_tokens(maps, self.classifier.grid, self.form.keep_tokens))

    def infer(self, views: tuple[Tensor, ...], lap: Lap) -> tuple[Tensor, Tensor]:
        shared, patches = self.tokens(*views)
        lap("backbone")
        maps = self.maps(round_trip(patches) if self.form.round_trip else patches)
        lap("generator")
        logits = self.classes(shared, maps)
        lap("classifier")
        return logits, maps


class Frozen(nn.Module):
    """The ViT with its normalisation, at its native input size and at another one."""

    mean: Tensor
    std: Tensor
    resized_positions: Tensor

    def __init__(self, vit: VisionTransformer, size_px: int):
        super().__init__()
        self.vit = vit
        native = vit.patch_embed.grid_size
        grid = (size_px // vit.patch_embed.patch_size[0],) * 2
        assert vit.pos_embed is not None  # checked by create_vit, as cls_token
        positions = vit.pos_embed.detach()
        resized = positions if grid == native else interpolate_positions(positions, 1, native, grid)
        self.register_buffer("resized_positions", resized.clone(), persistent=False)
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1) * 255, persistent=False)

    def forward(self, rgb: Tensor, *after: int) -> list[Tensor]:
        """A view > tokens `(B, 1 + T, D)` after each number of blocks in `after`, ascending. 0: embedded tokens."""
        vit = self.vit
        assert vit.pos_embed is not None and vit.cls_token is not None
        pixels = (rgb.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std
        patches = vit.patch_embed.proj(pixels).flatten(2).transpose(1, 2)
        positions = vit.pos_embed if vit.pos_embed.shape[1] == 1 + patches.shape[1] else self.resized_positions
        tokens = torch.cat([vit.cls_token.expand(len(rgb), -1, -1), patches], dim=1) + positions
        outputs = [tokens] if 0 in after else []
        for number, block in enumerate(vit.blocks, 1):
            tokens = block(tokens)
            if number in after:  # only these are kept in memory
                outputs.append(tokens)
        return outputs

    def square(self, tokens: Tensor) -> Tensor:
        """`(B, 1 + T, D)` > `(B, D, h, w)` without CLS."""
        side = round((tokens.shape[1] - 1) ** 0.5)
        return tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))


def round_trip(tokens: Tensor) -> Tensor:
    """Copies tokens to NumPy and back to the device, which waits for all earlier work."""
    return torch.from_numpy(tokens.float().cpu().numpy()).to(tokens.device, tokens.dtype)


def create_system(form: Form, classes: int, vit: str = VIT) -> Ppd | LocLoc:
    """Creates a system in eval mode, without gradients, on torch's default device."""
    model = (Ppd if form.family == "ppd" else LocLoc)(form, create_vit(vit), classes)
    return model.eval().requires_grad_(False)


def create_vit(name: str) -> VisionTransformer:
    """Creates a ViT with random weights; nothing is downloaded.

    Raises BenchError for any but a plain ViT of 224 px in patches of 16 with CLS as its only prefix token.
    """
    if name == "pocket":
        return create_pocket()
    if not timm.is_model(name):
        raise BenchError(f"No timm model {name!r}{did_you_mean(name, SUGGESTED)}")
    vit = timm.create_model(name, num_classes=0)
    if not isinstance(vit, VisionTransformer) or not _is_plain(vit):
        raise BenchError(f"--backbone {name} is no plain ViT of 224 px in patches of 16, as {VIT} is")
    return vit


def _is_plain(vit: VisionTransformer) -> bool:
    patches: Any = vit.patch_embed
    has_cls = vit.cls_token is not None and vit.num_prefix_tokens == 1
    return has_cls and patches.img_size == (SIZE_PX, SIZE_PX) and patches.patch_size == (16, 16)
