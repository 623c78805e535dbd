"""ILSVRC in small: the layouts, the forms of annotations, and what each can have wrong."""

import pytest

from locloc.pipeline.catalogs.ilsvrc_annotations import read_text
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import CatalogError

FISH, SHARK, VIPER = "n01440764", "n01491361", "n01756291"
VAL = "ILSVRC2012_val_{:08d}"


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def write(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def xml(file, *objects):
    parts = []
    for name, *box in objects:
        corners = "".join(
            f"<{tag}>{number}</{tag}>" for tag, number in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        parts.append(f"<object>\n<name>{name}</name><bndbox>{corners}</bndbox></object>")
    write(file, f"<annotation>\n<filename>x</filename><size><width>500</width></size>{''.join(parts)}\n</annotation>\n")


def rows(catalog, *names):
    return list(
        zip(*(catalog.table[name].to_pylist() for name in names or ("id", "label", "split", "boxes")), strict=True)
    )


def test_full_layout_with_xml(tmp_path):
    root, data = tmp_path / "ILSVRC", tmp_path / "ILSVRC/Data/CLS-LOC"
    touch(data, f"train/{SHARK}/{SHARK}_7.JPEG", f"train/{FISH}/{FISH}_9.JPEG", "test/t.JPEG")
    touch(data, f"val/{VAL.format(1)}.JPEG", f"val/{VAL.format(2)}.JPEG")
    notes = root / "Annotations/CLS-LOC"
    xml(notes / f"train/{FISH}/{FISH}_9.xml", (FISH, 1, 2, 3, 4))
    xml(notes / f"val/{VAL.format(1)}.xml", (SHARK, 5, 6, 70, 80), (SHARK, 1, 1, 2, 2))
    xml(notes / f"val/{VAL.format(2)}.xml", (FISH, 0, 0, 9, 9))
    xml(notes / f"val/{VAL.format(3)}.xml", (FISH, 0, 0, 9, 9))
    write(root / "ImageSets/CLS-LOC/val.txt", f"{VAL.format(1)} 1\n")
    for images in (tmp_path, root, data):
        catalog = read_catalog(images, "ilsvrc")
        assert (catalog.kind, catalog.root, catalog.classes) == ("ilsvrc", data, (FISH, SHARK))
        if images == data:  # the annotations are not below it, but beside
            assert len(catalog) == 4
        assert rows(catalog) == [
            (f"train/{FISH}/{FISH}_9.JPEG", 0, 1, [[1, 2, 3, 4]]),
            (f"train/{SHARK}/{SHARK}_7.JPEG", 1, 1, []),
            (f"val/{VAL.format(1)}.JPEG", 1, 2, [[5, 6, 70, 80], [1, 1, 2, 2]]),
            (f"val/{VAL.format(2)}.JPEG", 0, 2, [[0, 0, 9, 9]]),
        ]


@pytest.mark.parametrize("folder", ["Annotations/val", "val_annotations", "bbox/val", "ILSVRC2012_bbox_val_v3/val"])
def test_places_of_xml(tmp_path, folder):
    touch(tmp_path, f"val/{VAL.format(1)}.JPEG")
    xml(tmp_path / folder / f"{VAL.format(1)}.xml", (SHARK, 5, 6, 70, 80))
    catalog = read_catalog(tmp_path, "ilsvrc")
    assert catalog.classes == (SHARK,)
    assert rows(catalog) == [(f"val/{VAL.format(1)}.JPEG", 0, 2, [[5, 6, 70, 80]])]


def test_kaggle_layout(tmp_path):
    touch(tmp_path / "ILSVRC/Data/CLS-LOC", f"val/{VAL.format(1)}.JPEG", f"train/{SHARK}/{SHARK}_7.JPEG")
    write(tmp_path / "LOC_synset_mapping.txt", f"{FISH} tench, Tinca tinca\n{SHARK} shark\n{VIPER} viper\n")
    header = "ImageId,PredictionString\n"
    write(tmp_path / "LOC_val_solution.csv", f"{header}{VAL.format(1)},{VIPER} 111 108 441 193 {VIPER} 1 2 3 4 \n")
    write(tmp_path / "LOC_train_solution.csv", f"{header}{SHARK}_7,{SHARK} 1 2 3 4.5\n")
    for images in (tmp_path, tmp_path / "ILSVRC"):
        catalog = read_catalog(images, "ilsvrc")
        assert catalog.classes == (FISH, SHARK, VIPER)
        assert rows(catalog, "label", "boxes") == [(1, [[1, 2, 3, 4.5]]), (2, [[111, 108, 441, 193], [1, 2, 3, 4]])]


def test_val_in_synset_folders(tmp_path):
    touch(tmp_path, f"val/{VIPER}/{VAL.format(1)}.JPEG", f"val/{FISH}/{VAL.format(2)}.JPEG")
    write(tmp_path / "val_boxes.txt", f"{VAL.format(1)}.JPEG 111 108 441 193 1 2 3 4\n")
    catalog = read_catalog(tmp_path, "ilsvrc")
    assert catalog.classes == (FISH, VIPER)
    assert rows(catalog, "label", "boxes") == [(0, []), (1, [[111, 108, 441, 193], [1, 2, 3, 4]])]


def test_class_numbers_and_boxes_from_two_files(tmp_path):
    touch(tmp_path, *(f"val/{VAL.format(n)}.JPEG" for n in (1, 2, 3)))
    write(tmp_path / "val.txt", f"{VAL.format(1)}.JPEG 65\nval/{VAL.format(2)}.JPEG,970\n")
    write(tmp_path / "val_boxes.txt", f"{VAL.format(2)}.JPEG 1 2 3 4\n")
    catalog = read_catalog(tmp_path, "ilsvrc")
    assert catalog.classes == ()
    assert rows(catalog, "label", "boxes") == [(65, []), (970, [[1, 2, 3, 4]]), (-1, [])]


def test_train_alone(tmp_path):
    touch(tmp_path, f"train/{SHARK}/a.JPEG", f"train/{FISH}/b.JPEG")
    catalog = read_catalog(tmp_path, "ilsvrc")
    assert catalog.classes == (FISH, SHARK)
    assert rows(catalog) == [(f"train/{FISH}/b.JPEG", 0, 1, []), (f"train/{SHARK}/a.JPEG", 1, 1, [])]


def test_objects_of_several_classes_are_told(tmp_path):
    """The data as distributed have none; those of ImageNet's detection have."""
    touch(tmp_path, *(f"val/{VAL.format(n)}.JPEG" for n in (1, 2, 3)), f"train/{FISH}/a.JPEG")
    xml(tmp_path / "train_annotations/a.xml", (SHARK, 5, 6, 70, 80), (FISH, 1, 1, 2, 2))
    xml(tmp_path / f"val_annotations/{VAL.format(1)}.xml", (SHARK, 5, 6, 70, 80), (FISH, 1, 1, 2, 2))
    xml(tmp_path / f"val_annotations/{VAL.format(2)}.xml", (FISH, 5, 6, 70, 80), (FISH, 1, 1, 2, 2))
    write(tmp_path / "LOC_val_solution.csv", f"{VAL.format(3)},{SHARK} 1 2 3 4 {FISH} 5 6 7 8\n")
    write(tmp_path / "LOC_synset_mapping.txt", f"{FISH} tench\n{SHARK} shark\n")
    catalog = read_catalog(tmp_path, "ilsvrc")
    assert [label for (label,) in rows(catalog, "label")] == [0, 1, 0, 1]
    assert all(len(boxes) == 2 for (boxes,) in rows(catalog, "boxes"))
    (note,) = catalog.notes
    assert note.startswith("3 images have objects of several classes: the label is the folder's, else the first one's")


def test_an_object_without_a_name_is_no_other_class(tmp_path):
    touch(tmp_path, f"val/{VAL.format(1)}.JPEG")
    xml(tmp_path / f"val_annotations/{VAL.format(1)}.xml", (SHARK, 5, 6, 70, 80), ("", 1, 1, 2, 2))
    assert read_catalog(tmp_path, "ilsvrc").notes == ()


def test_every_line_of_text(tmp_path):
    write(
        tmp_path / "t.txt",
        f"\ufeffa.JPEG 65\nx/b.JPEG 1 2 3 4\nc,7 1 2 3 4\nd\t{FISH}\ne,{FISH} 1 2 3 4 {FISH} 5 6 7 8\n",
    )
    notes = read_text(tmp_path / "t.txt")
    assert {stem: (note.label, note.boxes) for stem, note in notes.items()} == {
        "a": (65, []),
        "b": (None, [[1, 2, 3, 4]]),
        "c": (7, [[1, 2, 3, 4]]),
        "d": (FISH, []),
        "e": (FISH, [[1, 2, 3, 4], [5, 6, 7, 8]]),
    }
    assert notes["c"].source == f"{tmp_path}/t.txt:3"


TEXT_ERRORS = {
    "three numbers": ("1 1 2 3", r"val.txt:2: 3 numbers, where each box has 4"),
    "word": ("1 dog", r"val.txt:2: could not convert string to float: 'dog'"),
    "name only": ("1", r"val.txt:2: nothing after the name"),
    "half a class": ("1 0.5", r"val.txt:2: class number 0.5 is not an integer"),
    "negative class": ("1 -1", r"val.txt:2: class number -1 is not an integer"),
    "class too far": ("1 2", r"val.txt:2: val/1.JPEG has class 2, which is none of the 2 known"),
    "unknown synset": (f"1 {VIPER}", rf"val.txt:2: val/1.JPEG has class {VIPER}, which is none of the 2 known"),
    "box cut by a synset": (f"1 {FISH} 1 2 {FISH} 3 4", r"val.txt:2: 2 numbers before n01440764, where a box has 4"),
    "numbers before a synset": (f"1 9 {FISH}", r"val.txt:2: 1 numbers before n01440764"),
    "twice": ("0 1", r"val.txt:2: 0 was already given at .*val.txt:1"),
}


@pytest.mark.parametrize(("line", "message"), TEXT_ERRORS.values(), ids=TEXT_ERRORS.keys())
def test_text_errors_name_the_line(tmp_path, line, message):
    touch(tmp_path, f"train/{FISH}/a.JPEG", f"train/{SHARK}/b.JPEG", "val/0.JPEG", "val/1.JPEG")
    write(tmp_path / "val.txt", f"0 1\n{line}\n")
    with pytest.raises(CatalogError, match=message):
        read_catalog(tmp_path, "ilsvrc")


BOX = "<xmin>{}</xmin><ymin>2</ymin><xmax>{}</xmax><ymax>{}</ymax>"
SIZE = "<size><width>20</width><height>10</height></size>"
BAD_XML = {
    "broken": ("<annotation>\n<object>\n</annotation>", "broken XML: mismatched tag"),
    "empty": ("", "broken XML: no element found"),
    "unknown encoding": ('<?xml version="1.0" encoding="klingon"?><a/>', "broken XML: unknown encoding"),
    "entities": ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "broken XML: has a DOCTYPE; an annotation has none"),
    "no box": ("<a><object/></a>", "an <object> without a <bndbox> of four numbers"),
    "three corners": ("<a><object><bndbox><xmin>1</xmin></bndbox></object></a>", "an <object> without a <bndbox>"),
    "word": (f"<a><object><bndbox>{BOX.format(1, 'x', 4)}</bndbox></object></a>", "an <object> without a <bndbox>"),
}
BAD_BOXES = {
    "min above max": (BOX.format(5, 1, 4), "min above max"),
    "no area": (BOX.format(1, 1, 4), "no area"),
    "no area in float32": (BOX.format(1, 1.00000001, 4), "no area"),
    "not a number": (BOX.format(1, "nan", 4), "not finite numbers of pixels"),
    "beyond any image": (BOX.format(1, 1e30, 4), "not finite numbers of pixels"),
    "outside": (SIZE + BOX.format(1, 22, 4), "outside the size that its annotation gives"),
    "above": (SIZE + BOX.format(-3, 9, 4), "outside the size that its annotation gives"),
}


@pytest.mark.parametrize(("text", "why"), BAD_XML.values(), ids=BAD_XML.keys())
def test_broken_xml_is_left_out_and_its_image_stays(tmp_path, text, why):
    touch(tmp_path, f"train/{FISH}/a.JPEG", "val/0.JPEG")
    write(tmp_path / "val_annotations/0.xml", text)
    catalog = read_catalog(tmp_path, "ilsvrc")
    assert rows(catalog) == [(f"train/{FISH}/a.JPEG", 0, 1, []), ("val/0.JPEG", -1, 2, [])]
    (left,) = catalog.left_out
    assert (left.kind, left.count) == ("annotation", 1) and left.why.startswith(why)
    assert left.first[0].startswith(f"{tmp_path}/val_annotations/0.xml")


@pytest.mark.parametrize(("box", "why"), BAD_BOXES.values(), ids=BAD_BOXES.keys())
def test_a_bad_box_is_left_out_and_the_others_stay(tmp_path, box, why):
    touch(tmp_path, f"train/{FISH}/a.JPEG", "val/0.JPEG")
    size, box = (SIZE, box.removeprefix(SIZE)) if box.startswith(SIZE) else ("", box)
    objects = f"<object><name>{FISH}</name><bndbox>{box}</bndbox></object>"
    objects += f"<object><name>{FISH}</name><bndbox>{BOX.format(0, 21, 11)}</bndbox></object>"  # a pixel beyond
    write(tmp_path / "val_annotations/0.xml", f"<a>{size}{objects}</a>")
    catalog = read_catalog(tmp_path, "ilsvrc")
    assert rows(catalog)[1] == ("val/0.JPEG", 0, 2, [[0, 2, 21, 11]])
    assert [(left.kind, left.why, left.count) for left in catalog.left_out] == [("box", why, 1)]
    assert catalog.annotated_size is None if not size else catalog.annotated_size.tolist() == [[0, 0], [20, 10]]


@pytest.mark.parametrize(("bad", "all_", "ends"), [(10, 12, False), (11, 12, True), (11, 240, False)])
def test_a_share_of_bad_annotations_ends_the_reading(tmp_path, bad, all_, ends):
    touch(tmp_path, *(f"train/{FISH}/{number}.JPEG" for number in range(all_)))
    for number in range(all_):
        box = (FISH, 5, 1, 1, 9) if number < bad else (FISH, 1, 1, 5, 9)
        xml(tmp_path / f"train_annotations/{number}.xml", box)
    if ends:
        with pytest.raises(CatalogError, match=r"11 of 12 annotations are bad, such as .*xml: 5 1 1 9: min above max"):
            read_catalog(tmp_path, "ilsvrc")
    else:
        assert sum(left.count for left in read_catalog(tmp_path, "ilsvrc").left_out) == bad


def test_a_class_that_the_mapping_lacks_is_an_error(tmp_path):
    touch(tmp_path, f"train/{FISH}/a.JPEG", "val/0.JPEG")
    xml(tmp_path / "val_annotations/0.xml", (VIPER, 1, 2, 3, 4))
    with pytest.raises(CatalogError, match=rf"0.xml: val/0.JPEG has class {VIPER}, which is none of the 1 known"):
        read_catalog(tmp_path, "ilsvrc")


def test_a_box_inside_out_in_a_line_is_left_out(tmp_path):
    touch(tmp_path, "val/0.JPEG", "val/1.JPEG")
    write(tmp_path / "val.txt", "0 1 1 5 9\n1 5 5 1 9 1 1 5 9\n")
    catalog = read_catalog(tmp_path, "ilsvrc")
    assert rows(catalog, "boxes") == [([[1, 1, 5, 9]],), ([[1, 1, 5, 9]],)]
    assert catalog.left_out[0].first == (f"{tmp_path}/val.txt:2: 5 5 1 9",)


def test_files_that_are_no_images_are_counted_below_their_split(tmp_path):
    touch(tmp_path, f"train/{FISH}/a.JPEG", f"train/{FISH}/b.NEF", "train/@eaDir/x.jpg", f"val/{FISH}/c.JPEG")
    left = read_catalog(tmp_path, "ilsvrc").left_out
    assert [(item.kind, item.name, item.first) for item in left] == [
        ("suffix", ".nef", (f"train/{FISH}/b.NEF",)),
        ("folder", "@eaDir", ("train/@eaDir",)),
    ]


def test_annotations_of_other_images(tmp_path):
    touch(tmp_path, "val/0.JPEG")
    write(tmp_path / "val.txt", "1.JPEG 3\n")
    with pytest.raises(CatalogError, match=r"val.txt names none of the 1 images in val/, such as 0.JPEG"):
        read_catalog(tmp_path, "ilsvrc")


def test_two_annotations_of_one_image(tmp_path):
    touch(tmp_path, "val/0.JPEG", "val_annotations/a/0.xml", "val_annotations/b/0.xml")
    with pytest.raises(CatalogError, match="Two annotations of 0: .*0.xml, .*0.xml"):
        read_catalog(tmp_path, "ilsvrc")


@pytest.mark.parametrize("line", ["tench", FISH])
def test_bad_mapping(tmp_path, line):
    touch(tmp_path, f"train/{FISH}/a.JPEG")
    write(tmp_path / "synset_words.txt", f"{FISH} tench\n{line}\n")
    with pytest.raises(CatalogError, match=r"synset_words.txt:2: expected another synset"):
        read_catalog(tmp_path, "ilsvrc")


def test_folder_that_the_mapping_lacks(tmp_path):
    touch(tmp_path, f"train/{SHARK}/a.JPEG")
    write(tmp_path / "synset_words.txt", f"{FISH} tench\n")
    with pytest.raises(CatalogError, match=rf"train/{SHARK}/a.JPEG has class {SHARK}, which is none of the 1 known"):
        read_catalog(tmp_path, "ilsvrc")


def test_image_outside_a_synset(tmp_path):
    touch(tmp_path, "train/a.JPEG")
    with pytest.raises(CatalogError, match=r"train/a.JPEG: not in the folder of a synset"):
        read_catalog(tmp_path, "ilsvrc")


def test_not_ilsvrc(tmp_path):
    with pytest.raises(CatalogError, match=r"No ILSVRC images: looked for train/ and val/"):
        read_catalog(tmp_path, "ilsvrc")
    (tmp_path / "val").mkdir()
    with pytest.raises(CatalogError, match=r"Found no images: train/ and val/ in .* hold none"):
        read_catalog(tmp_path, "ilsvrc")
