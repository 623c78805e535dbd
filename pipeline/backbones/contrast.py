"""The contrast map: how much more a patch looks like the object than like the rest, in a frozen ViT's own features.

CLS attention says roughly where the object is, in few bright patches. The mean token of those patches is a prototype of
the object, the mean token of the patches without attention one of the background; the cosine to the first minus the
cosine to the second covers the object evenly, and its neutral point is 0 for any backbone and size.

Shapes: B images, K maps, h x w token grid, T = h * w patches, D width.
"""

from torch import Tensor
from torch.nn import functional as F

from ..geometry.border import border_width

MAPS = 2  # with the least attention along the border: an object seldom lies there
LEAST_SHARE = 0.01  # of the mean attention, added before logs
MOST_WEIGHT = 8.0  # of a patch in the object's prototype, in means: one bright patch is not the object
BACKGROUND_FALL = 3.0  # a patch with the mean attention weighs exp(-3) in the background's prototype
TINY = 1e-12


def contrast_map(attention: Tensor, tokens: Tensor) -> Tensor:
    """Attention maps `(B, K, h, w) float32`, patch tokens `(B, T, D)` > contrast `(B, h, w) float32` in [-2, 2]."""
    weight = off_border_mean(attention).flatten(1)  # (B, T)
    directions = F.normalize(tokens.float(), dim=-1)
    foreground = F.normalize(weight.clamp(max=MOST_WEIGHT)[:, None] @ directions, dim=-1)
    background = F.normalize((-BACKGROUND_FALL * weight).exp()[:, None] @ directions, dim=-1)
    contrast = (directions @ (foreground - background).transpose(1, 2))[..., 0]
    return contrast.unflatten(1, attention.shape[2:])


def off_border_mean(attention: Tensor) -> Tensor:
    """`(B, K, h, w)` > the geometric mean of the MAPS maps with the least on the border, as multiples of its mean."""
    _, maps, height, width = attention.shape
    ring = border_width(height, width)
    relative = attention / attention.mean((2, 3), keepdim=True).clamp(min=TINY)
    inside = relative[:, :, ring : height - ring, ring : width - ring].sum((2, 3))
    chosen = inside.topk(min(MAPS, maps), dim=1).indices[:, :, None, None].expand(-1, -1, height, width)
    mean = (relative.gather(1, chosen) + LEAST_SHARE).log().mean(1).exp()
    return mean / mean.mean((1, 2), keepdim=True)
