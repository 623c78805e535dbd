"""The list of formats against Pillow's own, and which suffixes can be decoded."""

import pytest
from PIL import Image

from locloc.pipeline.io import formats
from locloc.pipeline.io.formats import EXTRA_SUFFIXES, FORMATS, SUFFIXES, decodable_suffixes, missing_extras


def test_formats_are_known_to_pillow():
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN)


def test_suffixes_and_formats_agree():
    """Pillow's formats for the suffixes that catalogs take are those that it may open. MPO is opened as JPEG."""
    known = {suffix: kind for suffix, kind in Image.registered_extensions().items() if suffix in SUFFIXES}
    assert set(known.values()) - {"MPO"} <= set(FORMATS)
    # Radiance and PAM are not Pillow's; .sr is a Sun raster and .pxm any of PBM, PGM and PPM, both known by content.
    assert SUFFIXES - set(known) == {".hdr", ".pic", ".pam", ".sr", ".pxm"}
    suffixes_of = {kind: suffix for suffix, kind in Image.registered_extensions().items()}
    for kind in set(FORMATS) & set(suffixes_of):
        assert suffixes_of[kind] in SUFFIXES


@pytest.mark.parametrize("have", [{"heif"}, set()])
def test_suffixes_of_extras(monkeypatch, have):
    monkeypatch.setattr(formats, "installed", lambda extra: extra in have)
    assert decodable_suffixes() - SUFFIXES == {suffix for suffix, extra in EXTRA_SUFFIXES.items() if extra in have}
    assert missing_extras() == {suffix: extra for suffix, extra in EXTRA_SUFFIXES.items() if extra not in have}
    assert not decodable_suffixes() & set(missing_extras())
