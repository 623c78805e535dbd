"""`export.json`: what an export of locloc says of its masks, so that they can be read back as they were."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...errors import TruthError
from ...recipe import Recipe
from ...store.reader import Version

NAME = "export.json"

_FRAMES = {
    "original": "pixels of the upright original image, as EXIF turns it; x to the right, y down, pixel i is i to i + 1",
    "mask": "pixels of the stored square of mask_px, which shows the image as `fit` says: stretched, or its centre",
}


@dataclass(frozen=True)
class ExportNote:
    """Where masks come from, and which pixels they are drawn in."""

    version: str
    format: str
    size: str  # "original" or "mask"
    segmentation: str
    fit: str  # "stretch" or "centre_crop"
    mask_px: int
    pixels: str  # in words
    backbone: dict[str, Any]  # of the version, as its provenance records it
    attention: list[int]  # H, h, w
    recipe: dict[str, Any]
    fingerprint: str

    @classmethod
    def of_version(cls, version: Version, name: str, size: str, segmentation: str) -> "ExportNote":
        recipe = Recipe.model_validate(version.provenance["recipe"])
        return cls(
            version.name,
            name,
            size,
            segmentation,
            recipe.images.fit,
            recipe.mask_px,
            _FRAMES[size],
            version.provenance["backbone"],
            list(version.attention_shape),
            version.provenance["recipe"],
            version.provenance["fingerprint"],
        )

    def json(self) -> dict[str, Any]:
        return {"made_by": "locloc", **asdict(self)}


def write_note(folder: Path, note: ExportNote) -> None:
    (folder / NAME).write_text(json.dumps(note.json(), indent=2) + "\n", encoding="utf-8")


def read_note(masks: Path) -> ExportNote | None:
    """The note in a folder of masks or beside it, or beside a file; None where there is none.

    Raises TruthError for one that cannot be read.
    """
    folders = (masks, masks.parent) if masks.is_dir() else (masks.parent,)
    file = next((folder / NAME for folder in folders if (folder / NAME).is_file()), None)
    if file is None:
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("made_by") != "locloc":
            return None
        return ExportNote(**{key: value for key, value in content.items() if key != "made_by"})
    except (OSError, ValueError, TypeError) as error:
        raise TruthError(f"{file} cannot be read: {error}; remove it, or export again") from None
