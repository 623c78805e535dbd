"""Texts of any script: a font that has them or none, no line breaks, no boxes."""

import pytest

from locloc.pipeline.io import fonts
from locloc.pipeline.io.fonts import default_font, drawable_text, escaped, find_font, isolated, shortened, visible


@pytest.mark.parametrize("text", ["cat", "Katzen-Bär", "кошка", "γάτα", "mèo con", "a&b<c>", "[bold]x[/]"])
def test_common_scripts_need_no_font_of_the_machine(monkeypatch, text):
    monkeypatch.setattr(fonts, "_find_system_fonts", lambda: pytest.fail("looked for"))
    found = find_font(text)
    assert found is not None and (found.text, found.font) == (text, default_font())


@pytest.mark.parametrize("text", ["\U000e0041", "猫\ue123", "", " \n ", "\u202e"])
def test_no_font_is_none_and_never_boxes(text):
    assert find_font(text) is None


def test_another_font_of_the_machine_is_taken_where_it_has_all_characters(monkeypatch):
    characters = {default_font(): "abc", "one.ttf": "abc猫", "two.ttf": "abc猫犬"}
    monkeypatch.setattr(fonts, "_find_system_fonts", lambda: tuple(characters)[1:])
    monkeypatch.setattr(fonts, "_characters", lambda file: frozenset(map(ord, characters[file])))
    assert [find_font(text) and find_font(text).font for text in ("猫a", "犬a", "犬d")] == ["one.ttf", "two.ttf", None]


def test_broken_fonts_and_bitmaps_are_passed_over(tmp_path):
    file = tmp_path / "broken.ttf"
    file.write_bytes(b"no font")
    assert fonts._characters(str(file)) == fonts._characters(str(tmp_path / "none.ttf")) == frozenset()


@pytest.mark.parametrize("text", ["قطة", "חתול", "x\u0301"])
def test_what_needs_shaping_has_no_font_without_it(text):
    assert find_font(text, shaping=False) is None and find_font(text, shaping=True) is not None


def test_names_keep_to_one_line_and_to_their_own_direction():
    assert drawable_text("a\nb\tc\u2028d\x1b[31m") == "a b c d [31m"
    assert drawable_text("a\u202eb\u2066c") == "abc" and drawable_text("a\udcff") == "a\ufffd"
    assert drawable_text("u\u0308ber") == "über"
    assert isolated("cat") == "cat" and isolated("قطة") == "\u2068قطة\u2069"
    assert visible("a\nb\x1bc\u202ed é") == "a\\nb\\x1bc\\u202ed é"
    assert escaped("猫/é.jpg") == "\\u732b/é.jpg"


def test_long_texts_lose_their_middle():
    name = "0123456789abcdefghij"
    assert shortened(name, lambda text: len(text) <= 20) == name
    assert shortened(name, lambda text: len(text) <= 9) == "0123…ghij"
    assert shortened(name, lambda text: len(text) <= 1) == "…"
    assert shortened(name, lambda text: False) is None
    for most in range(1, 9):  # marks stay with their letters
        short = shortened("कि" * 8, lambda text, most=most: len(text) <= most)
        assert short.startswith(("क", "…")) and "…ि" not in short and len(short) <= most
