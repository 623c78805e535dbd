"""Where imported masks come from: found, digested, and read block by block as a store holds them."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..catalogs.catalog import Catalog
from ..catalogs.paths import resolve
from ..config import validate_settings
from ..errors import ImageError, RecipeError, StoreError, TruthError, check_known, os_error_reason
from ..geometry.boxes import largest_box
from ..geometry.orientation import SWAPPED
from ..geometry.resize_crop import ResizeCrop
from ..inspect.ground_truth.boxes import too_many
from ..inspect.ground_truth.export_note import ExportNote, read_note
from ..inspect.ground_truth.masks import FORMATS, TrueMasks, find_truth, format_of, read_truth, square_truth
from ..inspect.ground_truth.pixels import UnreadableMask
from ..inspect.ground_truth.placement import MaskPlacement
from ..io.images import MissingImageError, read_image_bytes, read_orientation
from ..recipe import IMPORTED, Recipe, default_recipe, load_recipe, recorded_recipe
from ..status import Status
from ..store.location import StoreLocation
from ..store.schema import STATS, input_digest
from .spec import provenance, resolve_backbone

MASK_PX = 256

_EXPORTED = {"png": "masks", "coco": "instances.json", "labelstudio": "tasks.json", "yolo": "."}
"""What an export of locloc has its masks in, by format."""


@dataclass(frozen=True)
class ImportRequest:
    """The arguments of an import.

    masks_format  one of FORMATS; None: as the masks are
    truth_class   what is object in the masks, as of `find_truth`
    boxes_in      "stored" for masks that were drawn before EXIF turns an image
    mask_px       side of the stored masks; None: that of the version which they were exported from, else MASK_PX
    backbone      that `train` uses on the version; None: that of the version which they were exported from, else pocket
    """

    masks: Path
    catalog: Catalog
    store: StoreLocation | Path | str
    masks_format: str | None = None
    truth_class: str | None = None
    boxes_in: str = "upright"
    mask_px: int | None = None
    backbone: str | None = None
    weights: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Read:
    """What was read of one image and its mask."""

    status: Status
    reason: str
    digest: np.ndarray | None = None  # (16,) uint8 of the image's file
    orientation: int = 0
    size: tuple[int, int] = (0, 0)  # width, height of the upright image
    mask: np.ndarray | None = None  # (H, W) bool at its own size
    mask_error: str = ""  # why there is none where its file cannot be read


@dataclass
class BlockRows:
    """The rows of a block, as `write_block` and `StoreWriter.merge` take them."""

    masks: np.ndarray  # (n, S, S) bool
    columns: dict[str, np.ndarray]
    errors: dict[int, str] = field(default_factory=dict)

    def fail(self, row: int, status: Status, reason: str) -> None:
        self.columns["status"][row] = status
        self.errors[row] = reason


class MaskSource:
    """Where masks come from: found, digested, and read row by row."""

    def __init__(self, request: ImportRequest):
        """Raises TruthError where no image has a mask, StoreError for settings that do not fit the masks."""
        self.request, self.catalog = request, request.catalog
        given = Path(request.masks).absolute()
        if request.masks_format is not None:
            check_known(StoreError, "format of masks", request.masks_format, FORMATS)
        self.note = read_note(given)
        where, kind = _masks_at(given, request.masks_format, self.note)
        self.paths: list[str] = self.catalog.table["path"].to_pylist()
        with _without_option():
            self.masks: TrueMasks = find_truth(self.paths, where, request.truth_class, self.catalog.root, kind)
        self.recipe, backbone, self.attention = _settings(request, self.note)
        self.placement = MaskPlacement(
            len(self.masks), str(given), request.boxes_in, known_upright=self.note is not None
        )
        self.unreadable: list[str] = []
        digest = self._digest()
        operation = {
            "kind": "import",
            "format": kind,
            "masks": str(given),
            "masks_digest": digest,
            "read_as": self.masks.read_as,
            "exported_from": None if self.note is None else self.note.version,
        }
        made = provenance(self.catalog, self.recipe, "imported", backbone, operation, recipe_why=IMPORTED)
        identity = [digest, self.catalog.sha256, self.recipe.mask_px, self.recipe.images.fit, backbone["sha256"], kind]
        identity += [request.truth_class, request.boxes_in]
        fingerprint = hashlib.sha256(json.dumps(["import", *identity]).encode()).hexdigest()
        self.metadata = made | {"fingerprint": fingerprint, "build_id": fingerprint, "name": request.name}

    def _digest(self) -> str:
        """sha256 (hex) of all masks: which image has which bytes."""
        total = hashlib.sha256()
        of_file: dict[Path, str] = {}
        for path in sorted(self.masks.files):
            file = self.masks.files[path]
            if file not in of_file:
                of_file = {file: hashlib.sha256(_file_bytes(file)).hexdigest()}  # one file, or one for each image
            total.update(json.dumps([path, of_file[file]]).encode())
        return total.hexdigest()

    def rows(self, start: int, stop: int, threads: ThreadPoolExecutor) -> BlockRows:
        """Rows start to stop of the catalog."""
        count, side = stop - start, self.recipe.mask_px
        columns: dict[str, np.ndarray] = {
            "box": np.zeros((count, 4), np.float32),
            "stats": np.zeros((count, len(STATS)), np.float32),
            "status": np.full(count, Status.OK, np.uint8),
            "size": np.zeros((count, 2), np.int32),
            "orientation": np.zeros(count, np.uint8),
            "input_digest": np.zeros((count, 16), np.uint8),
        }
        block = BlockRows(np.zeros((count, side, side), bool), columns)
        paths = self.paths[start:stop]
        for row, (path, read) in enumerate(zip(paths, threads.map(self._read, paths), strict=True)):
            self._place(block, row, path, read)
        return block

    def _read(self, path: str) -> Read:
        where = resolve(self.catalog.root, path)
        digest = None
        try:
            data = read_image_bytes(where)
            digest = input_digest(data)
            orientation, (width, height) = read_orientation(data)
        except MissingImageError as error:
            return Read(Status.MISSING, str(error))
        except ImageError as error:
            return Read(Status.UNDECODABLE, str(error), digest)
        size = (height, width) if orientation in SWAPPED else (width, height)
        if path not in self.masks:
            return Read(Status.MISSING, f"no mask in {self.request.masks}", digest, orientation, size)
        try:
            with _without_option():
                mask = read_truth(self.masks, path, where)
        except UnreadableMask as error:
            return Read(Status.UNDECODABLE, f"its mask: {error}", digest, orientation, size, mask_error=str(error))
        return Read(Status.OK, "", digest, orientation, size, mask)

    def _place(self, block: BlockRows, row: int, path: str, read: Read) -> None:
        columns = block.columns
        columns["size"][row], columns["orientation"][row] = read.size, read.orientation
        if read.digest is not None:
            columns["input_digest"][row] = read.digest
        if read.mask_error:
            self.unreadable.append(read.mask_error)
            if too_many(len(self.unreadable), len(self.masks)):
                raise TruthError(self._unreadable_line())
        if read.mask is None:
            block.fail(row, read.status, read.reason)
            return
        square = self._square(path, read.mask, read)
        if square is None:
            block.fail(row, Status.UNDECODABLE, "its mask: width and height are exchanged")
            return
        block.masks[row] = square
        if not square.any():
            block.fail(row, Status.FALLBACK, "its mask is empty")
            return
        geometry = ResizeCrop.of_fit(self.recipe.images.fit, read.size, len(square))
        columns["box"][row] = geometry.boxes_back(largest_box(square))
        columns["stats"][row] = [square.mean() if name == "mask_share" else np.nan for name in STATS]

    def _square(self, path: str, mask: np.ndarray, read: Read) -> np.ndarray | None:
        """A mask `(H, W) bool` at its own size > `(S, S) bool` as it is stored; None where it is not of its image."""
        side, fit = self.recipe.mask_px, self.recipe.images.fit
        if not mask.any():
            return np.zeros((side, side), bool)
        if self.note is not None and self.note.size == "mask" and mask.shape == (side, side):
            return mask
        upright = self.placement.place(mask, np.array(read.size), read.orientation, self.masks.name(path))
        if upright is None:
            return None
        geometry = ResizeCrop.of_fit(fit, (upright.shape[1], upright.shape[0]), side)
        if self.note is not None and self.note.size == "original":
            return geometry.image(upright.view(np.uint8), "nearest").astype(bool)  # the inverse of how it was enlarged
        return square_truth(upright, geometry)

    def warnings(self) -> tuple[str, ...]:
        """Lines about what was read. Raises TruthError if no mask can be read, or none belongs to its image."""
        if self.unreadable and len(self.unreadable) == len(self.masks):
            raise TruthError(self._unreadable_line())
        with _without_option():
            lines = [_as_imported(line) for line in (*self.masks.warnings, *self.placement.warnings())]
        if self.masks.unused:
            lines.append(f"{self.masks.unused} of the masks in {self.request.masks} not used: of no image here")
        return (*lines, self._unreadable_line()) if self.unreadable else tuple(lines)

    def _unreadable_line(self) -> str:
        return f"{len(self.unreadable)} of {len(self.masks)} masks cannot be read (as {self.unreadable[0]})"


def _settings(request: ImportRequest, note: ExportNote | None) -> tuple[Recipe, dict[str, Any], tuple[int, int, int]]:
    """The recipe that says fit and size, the backbone's provenance, and the shape `(H, h, w)` of its attention."""
    if note is not None and note.size == "mask" and request.mask_px not in (None, note.mask_px):
        raise StoreError(
            f"{request.masks} was exported at the stored size, {note.mask_px} px: leave --mask-px {request.mask_px} out"
        )
    if note is not None and request.backbone is None and request.weights is None:
        recipe = recorded_recipe({"recipe": note.recipe}, note.version)
        heads, height, width = note.attention
        backbone, attention = note.backbone, (heads, height, width)
    else:
        recipe = load_recipe(default_recipe(request.backbone)).with_backbone(request.backbone)
        resolved = resolve_backbone(recipe, request.weights)
        backbone, attention = resolved.metadata, resolved.attention
    mask_px = request.mask_px or (note.mask_px if note is not None else MASK_PX)
    content = recipe.model_dump()
    content["mask_px"] = mask_px
    content["images"]["fit"] = note.fit if note is not None else "stretch"
    return validate_settings(Recipe, content, "masks import", RecipeError), backbone, attention


def _masks_at(given: Path, masks_format: str | None, note: ExportNote | None) -> tuple[Path, str]:
    """The file or folder of the masks, and their format. Raises TruthError where there is none."""
    if not given.exists():
        raise TruthError(f"{given} is no folder of masks and no file of annotations: there is nothing")
    if (given / "zarr.json").is_file():
        raise TruthError(f"{given} is an export to zarr; masks are imported from {', '.join(_EXPORTED)}")
    if given.is_dir() and note is not None and masks_format in (None, note.format):
        inside = given / _EXPORTED.get(note.format, "")
        if note.format not in _EXPORTED:
            raise TruthError(f"{given} is an export to {note.format}; masks are imported from {', '.join(_EXPORTED)}")
        if inside.exists():
            return inside, note.format
    return given, masks_format or format_of(given)


def _file_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        return f"unreadable: {os_error_reason(error)}".encode()  # the image's row says so


@contextmanager
def _without_option() -> Iterator[None]:
    """Errors about masks as `--truth` names them > as this command does."""
    try:
        yield
    except TruthError as error:
        raise type(error)(_as_imported(str(error))) from None


def _as_imported(line: str) -> str:
    return line.removeprefix("--truth ").replace("True mask", "Mask").replace("true mask", "mask")
