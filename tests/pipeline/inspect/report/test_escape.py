"""Data reach the page as they are, whatever they hold."""

import base64
import json

import numpy as np
import pytest

from locloc.pipeline.inspect.report.escape import packed, script_call, script_json

from .conftest import EVIL


@pytest.mark.parametrize("text", [*EVIL, "\ud800 alone", "<!--", "]]>", "\\u003c", "\x00\x1f\x7f"])
def test_text_is_inert_and_unchanged(text):
    written = script_json({"text": [text, {text: 1}]})
    assert written.isascii() and not any(one in written for one in "<>&\n\r")
    assert json.loads(written) == {"text": [text, {text: 1}]}
    assert script_call("onData", [text]) == f"locloc.onData({script_json([text])});\n"


def test_what_is_not_finite_is_null():
    assert script_json([float("nan"), float("inf"), 1.5, True, None]) == "[null,null,1.5,true,null]"


def test_arrays_are_little_endian():
    assert base64.b64decode(packed(np.array([1, 258]), "u2")["base64"]) == b"\x01\x00\x02\x01"
    big = np.array([1.5, np.nan], ">f4")
    assert np.array_equal(np.frombuffer(base64.b64decode(packed(big, "f4")["base64"]), "<f4"), [1.5, np.nan], True)
