"""Lays out the panels of images as a figure, and writes it in raster and vector formats.

All coordinates are pixels of a figure of DPI dots an inch, from its upper left corner.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg  # without pyplot: no window, no global state
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Polygon, Rectangle
from PIL import ImageFont

from ...errors import StoreError, os_error_reason
from ...io.fonts import default_font, escaped, find_font, shortened, visible
from ...io.outputs import write_output
from ...store.reader import Version
from .output import VECTOR, format_of
from .panels import BOX, MASK, TITLES, TRIMAP, TRUTH, Panel, panels_of
from .rows import ViewedImage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 100
PANEL_PX = 256
"""Longest side of a panel."""

_GAP_PX, _COLUMN_GAP_PX, _ROW_GAP_PX = 8, 28, 14
_HEAD_PX, _CAPTION_PX = 80, 40  # head: title, legend, titles of panels
_TITLE_FONT_PX, _FONT_PX, _SMALL_FONT_PX = 16, 14, 12

_MOST_PX = {"pdf": 20_000, "webp": 16_383}  # sides; PDF: 200 inches
_MOST_RASTER_PX, _MOST_RASTER_AREA = 65_000, 150_000_000

_TEXT, _FAINT, _BLANK = "#282828", "#606060", "#e4e4e4"


@dataclass(frozen=True)
class _Layout:
    """Where things are, for a number of panels an image."""

    panels: int
    columns: int
    row_tops: list[int]
    size_px: tuple[int, int]

    @property
    def image_width(self) -> int:
        return self.panels * (PANEL_PX + _GAP_PX) - _GAP_PX

    def left(self, column: int) -> int:
        return _GAP_PX + column * (self.image_width + _COLUMN_GAP_PX)


def draw_view(version: Version, images: Sequence[ViewedImage], columns: int, file: Path) -> Figure:
    """The images in rows of `columns`, below a title and a legend. Raises StoreError if `file` cannot be so large."""
    panels = len(TITLES) if any(image.truth is not None for image in images) else len(TITLES) - 1
    layout = _lay_out(images, panels, min(columns, len(images)))
    _check_size(layout.size_px, format_of(file), len(images))
    width, height = layout.size_px
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    vector = format_of(file) in VECTOR
    _draw_head(axes, version, layout)
    for number, image in enumerate(images):
        row, column = divmod(number, layout.columns)
        left, top = layout.left(column), layout.row_tops[row]
        _draw_caption(axes, image, left, top, layout.image_width)
        for place, panel in enumerate(panels_of(image)):
            x = left + place * (PANEL_PX + _GAP_PX)
            _draw_panel(axes, panel, (x, top + _CAPTION_PX), image.size_px, vector)
    return figure


def save_view(figure: Figure, file: Path) -> None:
    """Writes a figure in the format of the file's suffix, whole or not at all. Raises StoreError."""
    name, buffer = format_of(file), io.BytesIO()
    # Without dates and random ids, equal figures are equal files.
    metadata: Any = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(name)
    with matplotlib.rc_context({"svg.hashsalt": "locloc", "pdf.fonttype": 42}):
        figure.savefig(buffer, format=name, dpi=DPI, metadata=metadata)
    try:
        write_output(file, buffer.getvalue())
    except OSError as error:
        raise StoreError(f"--out {file} cannot be written: {os_error_reason(error)}; name another file") from None


def _lay_out(images: Sequence[ViewedImage], panels: int, columns: int) -> _Layout:
    tops, top = [], _HEAD_PX
    for start in range(0, len(images), columns):
        tops.append(top)
        highest = max(_panel_size(image.size_px)[1] for image in images[start : start + columns])
        top += _CAPTION_PX + round(highest) + _ROW_GAP_PX
    image_width = panels * (PANEL_PX + _GAP_PX) - _GAP_PX
    width = 2 * _GAP_PX + columns * image_width + (columns - 1) * _COLUMN_GAP_PX
    return _Layout(panels, columns, tops, (width, top))


def _panel_size(size_px: tuple[int, int]) -> tuple[float, float]:
    """Width and height with the image's proportions, of which the longer is PANEL_PX."""
    scale = PANEL_PX / max(size_px)
    return max(1.0, size_px[0] * scale), max(1.0, size_px[1] * scale)


def _check_size(size_px: tuple[int, int], name: str, images: int) -> None:
    most = _MOST_PX.get(name, _MOST_RASTER_PX)
    too_large = max(size_px) > most or (name not in VECTOR and size_px[0] * size_px[1] > _MOST_RASTER_AREA)
    if too_large:
        raise StoreError(
            f"{images} images make a figure of {size_px[0]} x {size_px[1]} pixels, which is too large for a .{name}; "
            "name fewer, or put more side by side with --columns"
        )


def _draw_head(axes: "Axes", version: Version, layout: _Layout) -> None:
    width = layout.size_px[0] - 2 * _GAP_PX
    about = version.provenance
    recipe, backbone = about.get("recipe_name", "?"), about.get("backbone", {}).get("name", "?")
    store = str(version.store).rstrip("/").rpartition("/")[2]
    made = f"recipe {recipe}, backbone {backbone}"
    _write(axes, _GAP_PX, 20, f"{store}@{version.tag} · {made}", width, _TITLE_FONT_PX)
    x = float(_GAP_PX)
    _write(axes, x, 45, "trimap:", width, _SMALL_FONT_PX, _FAINT)
    x += 50
    for name, colour in TRIMAP.values():
        axes.add_patch(Rectangle((x, 35), 18, 12, facecolor=_hex(colour), edgecolor=_FAINT, linewidth=0.5))
        x = _write(axes, x + 23, 45, name, width, _SMALL_FONT_PX, _FAINT) + 16
    lines = [("mask", MASK), ("box", BOX)] + ([("ground truth", TRUTH)] if layout.panels == len(TITLES) else [])
    for name, colour in lines:
        axes.plot([x, x + 18], [41, 41], color=_hex(colour), linewidth=2)
        x = _write(axes, x + 23, 45, name, width, _SMALL_FONT_PX, _FAINT) + 16
    for column in range(layout.columns):
        for place, title in enumerate(TITLES[: layout.panels]):
            left = layout.left(column) + place * (PANEL_PX + _GAP_PX)
            _write(axes, left, 70, title, PANEL_PX, _FONT_PX)


def _draw_caption(axes: "Axes", image: ViewedImage, left: int, top: int, width: int) -> None:
    _write(axes, left, top + 15, visible(image.id), width, _FONT_PX)
    _write(axes, left, top + 32, "; ".join([image.figures, *image.notes]), width, _SMALL_FONT_PX, _FAINT)


def _draw_panel(axes: "Axes", panel: Panel, at: tuple[int, int], size_px: tuple[int, int], vector: bool) -> None:
    """at: the panel's upper left corner; size_px: of the image, which the panel shows in whole."""
    (x, y), (width, height) = at, _panel_size(size_px)
    x_scale, y_scale = width / size_px[0], height / size_px[1]
    frame = Rectangle((x, y), width, height, facecolor=_BLANK, edgecolor="none", zorder=-1)  # images are at 0
    axes.add_patch(frame)
    for layer in panel.layers:
        left, top, right, bottom = layer.extent
        drawn = axes.imshow(
            layer.pixels,
            extent=(x + left * x_scale, x + right * x_scale, y + bottom * y_scale, y + top * y_scale),
            interpolation="none" if vector else "antialiased" if layer.smooth else "nearest",
            aspect="auto",
        )
        drawn.set_clip_path(frame)
    for outline in panel.outlines:
        points = outline * (x_scale, y_scale) + (x, y)
        line = Polygon(points, closed=True, fill=False, edgecolor=_hex(panel.outline_colour), linewidth=0.9)
        _clipped(axes, line, frame)
    for x0, y0, x1, y1 in panel.boxes:
        corner, sides = (x + x0 * x_scale, y + y0 * y_scale), ((x1 - x0) * x_scale, (y1 - y0) * y_scale)
        _clipped(axes, Rectangle(corner, *sides, fill=False, edgecolor=_hex(panel.box_colour), linewidth=1.8), frame)
    if panel.note is not None:
        _write(axes, x + 6, y + min(height / 2 + 4, 20), panel.note, width - 12, _SMALL_FONT_PX, _FAINT)


def _clipped(axes: "Axes", patch: Any, frame: Rectangle) -> None:
    axes.add_patch(patch)
    patch.set_clip_path(frame)


def _write(
    axes: "Axes", x: float, baseline: float, text: str, width: float, font_px: int, colour: str = _TEXT
) -> float:
    """Writes one line, without its middle where it is wider than `width`. Returns where it ends.

    Characters that no font has become `\\u732b`.
    """
    found = find_font(text, shaping=_SHAPES)
    text, file = (found.text, found.font) if found else (escaped(text), default_font())
    font = ImageFont.truetype(file, font_px)
    shown = shortened(text, lambda part: font.getlength(part) <= width)
    if not shown:
        return x
    properties = FontProperties(fname=file, size=font_px * 72 / DPI)
    axes.text(x, baseline, shown, color=colour, fontproperties=properties, parse_math=False)
    return x + font.getlength(shown)


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


_SHAPES = hasattr(matplotlib.ft2font, "__libraqm_version__")  # of Matplotlib 3.11 and newer
