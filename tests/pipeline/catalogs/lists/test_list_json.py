"""JSON lines and arrays of JSON."""

import json

import pytest

from locloc.pipeline.catalogs.lists.list import read_list
from locloc.pipeline.errors import CatalogError

ROWS = [{"path": "a.jpg", "label": 1.0}, {"path": "b.jpg", "label": None, "note": 3}]


def read(tmp_path, text, name="l.jsonl", encoding="utf-8"):
    (tmp_path / name).write_bytes(text.encode(encoding))
    return read_list(tmp_path / name, None)


@pytest.mark.parametrize("name", ["l.jsonl", "l.json", "l.ndjson"])
@pytest.mark.parametrize(
    "text",
    [
        "\n".join(map(json.dumps, ROWS)),
        "\ufeff" + "\r\n".join(map(json.dumps, ROWS)),
        json.dumps(ROWS),
        "\ufeff\n " + json.dumps(ROWS, indent=2),
    ],
)
def test_lines_and_arrays(tmp_path, text, name):
    catalog = read(tmp_path, text, name)
    assert catalog.slice(0, 9)[1] == ["a.jpg", "b.jpg"]
    assert catalog.table["label"].to_pylist() == [1, -1]
    assert catalog.notes == (
        "columns ignored: note",
        "labels with a decimal point, such as 1.0, are read as integers",
    )


def test_utf_16_and_odd_line_ends_in_names(tmp_path):
    text = "".join(json.dumps({"file_name": name}, ensure_ascii=False) + "\n" for name in ("a\u2028.jpg", "b\x85.jpg"))
    catalog = read(tmp_path, text, encoding="utf-16")
    assert catalog.slice(0, 9)[1] == ["a\u2028.jpg", "b\x85.jpg"]
    assert catalog.notes == ("column 'file_name' is read as path",)


def test_boxes_with_names(tmp_path):
    boxes = [{"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}, {"x": 1, "y": 2, "width": 3, "height": 4}]
    catalog = read(tmp_path, json.dumps([{"path": "a", "boxes": boxes}, {"path": "b", "boxes": boxes[0]}]))
    assert catalog.table["boxes"].to_pylist() == [[[1, 2, 3, 4], [1, 2, 4, 6]], [[1, 2, 3, 4]]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"path": "a"}, {"paht": "b"}]', "l.jsonl element 2: no key 'path'; did you mean 'paht'"),
        ('[{"path": "a"}, 3]', "l.jsonl element 2: not a JSON object"),
        ('[{"path": "a"}', r"l.jsonl: broken JSON \(.*\) in an array of objects"),
        ("[" * 100_000, r"l.jsonl: broken JSON"),
        ('{"path": "a"}\n{"path": "b", "path": "c"}', r"l.jsonl:2: .*an object has the key 'path' twice"),
        ('[{"path": "a", "label": 1, "label": 2}]', r"l.jsonl: .*an object has the key 'label' twice"),
        (
            '{"images": [], "annotations": []}',
            "l.jsonl:1: no key 'path'.*known: annotations, images; this is a file of COCO's",
        ),
        ('{\n  "path": "a"\n}', r"l.jsonl:1: broken JSON .*; a list has one object a line, or is one array"),
        ('{"path": "a", "bbox": [1, 2, 3, 4]}', "l.jsonl:1: column 'bbox' may hold corners or sizes"),
        (
            '{"path": "a", "boxes": [1, 2, 3, 4]}\n{"path": "b", "boxes_xywh": [1, 2, 3, 4]}',
            "l.jsonl:2: boxes and boxes_xywh in one list",
        ),
        ('{"path": "a", "label": [1, 2]}', "l.jsonl:1: label .* an image has one label"),
    ],
)
def test_errors_name_the_place(tmp_path, text, message):
    with pytest.raises(CatalogError, match=message):
        read(tmp_path, text)
