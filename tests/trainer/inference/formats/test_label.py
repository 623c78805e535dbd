"""Labels of overlays: within the canvas, in any script, or the class's number."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from locloc.pipeline.io import fonts
from locloc.trainer.inference.formats import label
from locloc.trainer.inference.formats.label import draw_label
from locloc.trainer.inference.predict import Prediction

COLOUR = (230, 159, 0)


def prediction(name: str) -> Prediction:
    return Prediction((100, 100), np.zeros(4, np.float32), np.zeros((100, 100), bool), 0.5, (3,), (name,), (0.83,))


@pytest.fixture
def drawn(monkeypatch):
    """draw(name, size, box) > the text that is drawn, or None. Fails where anything is drawn off the canvas."""

    def draw(name: str, size: tuple[int, int] = (640, 480), box=None) -> str | None:
        texts = []
        sheet = Image.new("RGB", (size[0] + 200, size[1] + 200))
        pen = ImageDraw.Draw(sheet)
        write = pen.text
        pen.text = lambda at, text, **how: (texts.append(text), write(at, text, **how))
        draw_label(pen, prediction(name), box, COLOUR, size)
        pixels = np.array(sheet)
        assert not pixels[size[1] :].any() and not pixels[:, size[0] :].any()
        return texts[0] if texts else None

    return draw


@pytest.mark.parametrize("name", ["cat", "кошка", "a&b<c>", "[bold]x[/]"])
def test_names_are_drawn_with_their_score(drawn, name):
    assert drawn(name) == f"{name}: 0.83"


def test_a_name_from_right_to_left_leaves_its_score_on_the_right(drawn, monkeypatch):
    assert drawn("قطة") in ("\u2068قطة\u2069: 0.83", "class 3: 0.83")  # as this machine's Pillow can
    monkeypatch.setattr(fonts.features, "check", lambda name: False)
    assert drawn("قطة") == "class 3: 0.83"


@pytest.mark.parametrize("name", ["猫\ue123", "\ue000", "", "\u200b\n"])
def test_a_name_that_no_font_has_is_its_number(drawn, name):
    assert drawn(name) == "class 3: 0.83"


def test_numbers_are_named_as_such_and_lines_joined(drawn):
    assert drawn("0042") == "class 0042: 0.83" and drawn("two\nlines") == "two lines: 0.83"


@pytest.mark.parametrize("size", [(640, 480), (90, 640), (640, 30), (2048, 100)])
@pytest.mark.parametrize("box", [None, (0, 0, 9, 9), (620, 470, 640, 480), (-5, -5, 700, 700)])
def test_long_names_are_shortened_within_the_canvas(drawn, size, box):
    text = drawn("a_very_long_name_of_a_species_" * 9 + "end", size, None if box is None else np.array(box, float))
    assert text.endswith(": 0.83") and "…" in text
    if size[0] >= 640:
        assert text.startswith("a_very") and text.endswith("end: 0.83")


@pytest.mark.parametrize("size", [(1, 640), (10, 640), (640, 3), (640, 10), (45, 640)])
def test_a_canvas_without_room_has_the_score_or_nothing(drawn, size):
    text = drawn("cat", size)
    assert text is None if min(size) <= 10 else text.endswith("0.83")


def test_runs_without_a_classifier_say_object():
    one = Prediction((9, 9), np.zeros(4, np.float32), np.zeros((9, 9), bool), 0.5, (), (), ())
    assert label._name_and_score(one)[0].text == "object"
