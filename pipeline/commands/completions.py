"""What shells complete, by option. The names are written down here: looking them up would import half of locloc."""

from collections.abc import Callable
from pathlib import Path

RECIPES = tuple(sorted(file.stem for file in Path(__file__).parents[1].joinpath("recipes").glob("*.toml")))
TRAIN_RECIPES = tuple(
    sorted(file.stem for file in Path(__file__).parents[2].joinpath("trainer", "recipes").glob("*.toml"))
)
CATALOGS = (
    "coco", "cub", "folder", "hf", "ilsvrc", "imagefolder", "list", "parquet", "synthetic", "voc", "webdataset",
)  # fmt: skip
BACKBONES = (
    "pocket",
    "vit_small_patch16_224.dino",
    "vit_base_patch16_224.dino",
    "vit_small_patch14_dinov2.lvd142m",
    "vit_small_patch14_reg4_dinov2.lvd142m",
    "vit_small_patch16_dinov3.lvd1689m",
)
STATUSES = ("crashed", "fallback", "missing", "non-finite", "ok", "undecodable")
EXPORTS = ("coco", "hdf5", "labelstudio", "parquet", "png", "webdataset", "yolo", "zarr")
MASK_FORMATS = ("coco", "labelstudio", "png", "yolo")
STAGES = ("all", "classifier", "generator", "ppd")
SPLITS = ("test", "train", "val")
METRICS = ("box-iou", "corloc", "mask-iou")
PROTOCOLS = ("all", "locloc", "locloc-official", "ppd", "wsol")
FORMATS = ("coco", "json", "mask", "overlay")
MODELS = ("auto", "locloc", "ppd")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("bf16", "fp16", "fp32", "tf32")
PRECISIONS_OR_AUTO = ("auto", *PRECISIONS)


def one_of(names: tuple[str, ...]) -> Callable[[str], list[str]]:
    """The `autocompletion` of an option with these names; a shell completes files where none of them fits."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete
