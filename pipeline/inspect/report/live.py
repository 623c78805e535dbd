"""What `locloc masks serve` answers with: the same page, with images and drawings made when they are looked at.

Nothing of a request is ever a path: it names an asset, or the number of a row or a block.
"""

import io
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ...catalogs.paths import parse_location, resolve
from ...errors import ImageError
from ...io.images import decode_reduced, read_image_bytes
from ...recipe import recorded_recipe
from ...status import HAS_MASK
from ...store.decisions import UNDECIDED
from ...store.reader import Version
from .block import ROWS, read_mask_block
from .decisions_csv import WORDS
from .decisions_file import DecisionsFile
from .escape import script_call
from .page import asset, asset_names, index_html, page_json
from .rows import choose_rows, collect_rows
from .thumbnail import METHOD, QUALITY, make_thumbnail

TILE_PX = 320
IMAGE_PX = 1600
CACHED_BYTES = 256 << 20
LONGEST_NOTE = 10_000


@dataclass(frozen=True)
class Answer:
    """The body of a response."""

    body: bytes
    content_type: str
    cacheable: bool = False


class NotThereError(Exception):
    """There is nothing under that name."""


class _Cache:
    """The latest answers, up to CACHED_BYTES. For several threads."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, name: str) -> Answer | None:
        with self._lock:
            if name in self._answers:
                self._answers.move_to_end(name)
            return self._answers.get(name)

    def put(self, name: str, answer: Answer) -> None:
        with self._lock:
            if name not in self._answers:
                self._answers[name] = answer
                self._bytes += len(answer.body)
            while self._bytes > CACHED_BYTES and len(self._answers) > 1:
                self._bytes -= len(self._answers.popitem(last=False)[1].body)


@dataclass
class LivePage:
    """A version as a page that is served. decisions_file: a CSV, as of DecisionsFile."""

    version: Version
    decisions_file: Path
    sample: int | None = None
    everything: bool = False
    root: str | None = None
    _cache: _Cache = field(default_factory=_Cache, init=False)

    def __post_init__(self) -> None:
        """Reads the columns. Raises StoreError."""
        self._recipe = recorded_recipe(self.version.provenance, self.version.name)
        self._root = parse_location(self.root or self.version.provenance["catalog"]["root"])
        self._status = self.version.status
        self._shown = collect_rows(self.version, choose_rows(self.version, self.sample, self.everything))
        self.decisions = DecisionsFile(self.decisions_file, self.version)
        self._page = page_json(self._shown, self._shown.metrics, None, None, "", [])
        self._page |= {"of": len(self.version), "imageNotes": [[], []]}

    def __len__(self) -> int:
        return len(self._shown)

    def get(self, name: str) -> Answer:
        """The answer to GET: "" for the page, "data.js", "assets/NAME", "tile/ROW.webp", "image/ROW.webp" or
        "blocks/N.js". Raises NotThereError for any other name, and for an image that cannot be read."""
        if name in ("", "index.html"):
            return Answer(index_html(self.version, None, live=True), "text/html; charset=utf-8")
        if name == "data.js":
            page = self._page | {"kept": self.decisions.as_json()}
            return Answer(script_call("onData", page).encode(), _SCRIPT)
        folder, _, rest = name.partition("/")
        if folder == "assets" and rest in asset_names():
            return Answer(asset(rest), _SCRIPT if rest.endswith(".js") else "text/css; charset=utf-8")
        if (known := self._cache.get(name)) is not None:
            return known
        answer = self._made(folder, rest)
        self._cache.put(name, answer)
        return answer

    def _made(self, folder: str, rest: str) -> Answer:
        makers = {"tile": (".webp", self._tile), "image": (".webp", self._image), "blocks": (".js", self._block)}
        suffix, make = makers.get(folder, ("", None))
        number = rest.removesuffix(suffix)
        if make is None or not rest.endswith(suffix) or not number.isascii() or not number.isdecimal():
            raise NotThereError
        if len(number) > 12:
            raise NotThereError
        return make(int(number))

    def _tile(self, row: int) -> Answer:
        if not row < len(self._shown):
            raise NotThereError
        max_pixels, path = self._recipe.images.max_pixels, self._shown.paths[row]
        thumbnail = make_thumbnail(self._root, path, TILE_PX, max_pixels, np.zeros(16, np.uint8))
        if thumbnail.webp is None:
            raise NotThereError
        return Answer(thumbnail.webp, _WEBP, True)

    def _image(self, row: int) -> Answer:
        if not row < len(self._shown):
            raise NotThereError
        try:
            data = read_image_bytes(resolve(self._root, self._shown.paths[row]))
            image = decode_reduced(data, IMAGE_PX, self._recipe.images.max_pixels)
        except ImageError:
            raise NotThereError from None
        scale = min(1.0, IMAGE_PX / max(image.size_px))
        width, height = (max(1, round(side * scale)) for side in image.size_px)
        small = Image.fromarray(image.rgb).resize(
            (width, height), Image.Resampling.BICUBIC, box=image.window, reducing_gap=2.0
        )
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=QUALITY + 15, method=METHOD)
        return Answer(buffer.getvalue(), _WEBP, True)

    def _block(self, number: int) -> Answer:
        rows = self._shown.rows[number * ROWS : (number + 1) * ROWS]
        if not len(rows):
            raise NotThereError
        block = read_mask_block(self.version, self._recipe, rows)
        return Answer(script_call("onBlock", number, [block.rows], {}).encode(), _SCRIPT, True)

    def decide(self, body: bytes) -> None:
        """Keeps changes, JSON `[[row, decision or null, note], ...]`.

        Raises ValueError for anything else; StoreError and OSError as DecisionsFile.
        """
        changes = json.loads(body)
        if not isinstance(changes, list):
            raise ValueError("no list")
        kept = []
        for change in changes:
            if not isinstance(change, list) or len(change) != 3:
                raise ValueError("a change is [row, decision, note]")
            row, decision, note = change
            if type(row) is not int or not 0 <= row < len(self._shown):
                raise ValueError("no such row")
            if decision not in (None, *WORDS) or not isinstance(note, str) or len(note) > LONGEST_NOTE:
                raise ValueError("no such decision")
            if decision not in (None, UNDECIDED) and self._status[self._shown.rows[row]] not in HAS_MASK:
                raise ValueError("no mask to decide about")
            kept.append((self._shown.ids[row], decision, note))
        self.decisions.change(kept)


_SCRIPT = "text/javascript; charset=utf-8"
_WEBP = "image/webp"
