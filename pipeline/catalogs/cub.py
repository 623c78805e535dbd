"""CUB-200-2011 (Wah et al. 2011), as distributed."""

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import CatalogError
from .bad_annotations import check_share, good_boxes
from .catalog import Catalog, CatalogRows, build_catalog
from .left_out import Omissions
from .lines import numbered_lines, place
from .paths import folder_of, inside, root_prefixes, to_text
from .split_words import SPLIT_CODES


def read_cub(images: Path | str, root: Path | str | None) -> Catalog:
    """The folder that holds images.txt, or its parent (which then holds `CUB_200_2011`).

    id = path = the path below `images/`, as images.txt and wsolevaluation's metadata name it; the catalog's root is
    that folder. label = class number - 1, classes as in classes.txt, split train or test, one box an image, from
    "x y width height". A box without area or with numbers that are not finite is left out and counted, while its image
    stays; more than 10 that are more than 5 % of all end in an error.

    Raises CatalogError: a file is missing, too many bad boxes, or, naming file and line, a line does not parse or
    contradicts another file.
    """
    base = folder_of("cub", images, root)
    folder = next((at for at in (base, base / "CUB_200_2011") if os.path.isfile(at / "images.txt")), None)
    if folder is None:
        raise CatalogError(f"No CUB-200-2011 in {to_text(str(base))}: looked for images.txt, CUB_200_2011/images.txt")
    if not os.path.isdir(folder / "images"):
        raise CatalogError(f"{to_text(str(folder))} has images.txt, but no folder 'images' beside it")

    classes = _classes(folder / "classes.txt")
    names = {number: (line, name) for line, number, name in _numbered(folder / "images.txt")}
    labels = _numbers_by_image(folder / "image_class_labels.txt", names, 1)
    splits = _numbers_by_image(folder / "train_test_split.txt", names, 1)
    boxes = _numbers_by_image(folder / "bounding_boxes.txt", names, 4)

    rows, prefixes, omissions = CatalogRows(), root_prefixes(folder / "images"), Omissions()
    for number, (line, name) in names.items():
        try:
            path = inside(name, prefixes)
        except ValueError as error:
            raise CatalogError(f"{place(folder / 'images.txt', line)}: {error}") from error
        label_line, (class_number,) = labels[number]
        if class_number not in range(1, len(classes) + 1):
            raise CatalogError(
                f"{place(folder / 'image_class_labels.txt', label_line)}: class {class_number:g} is not in classes.txt"
            )
        split_line, (is_train,) = splits[number]
        if is_train not in (0, 1):
            raise CatalogError(f"{place(folder / 'train_test_split.txt', split_line)}: {is_train:g} is neither 0 nor 1")
        box_line, (x, y, width, height) = boxes[number]
        source = place(folder / "bounding_boxes.txt", box_line)
        rows.add(
            path,
            path,
            int(class_number) - 1,
            SPLIT_CODES["train" if is_train else "test"],
            good_boxes([(x, y, x + width, y + height)], source, omissions),
        )
    check_share(omissions, len(names), to_text(str(folder / "bounding_boxes.txt")))
    image_lines = [line for line, _ in names.values()]
    looked_for = f"{to_text(str(folder / 'images.txt'))} is empty"
    return build_catalog(
        "cub",
        folder / "images",
        rows,
        classes,
        where=lambda row, _: place(folder / "images.txt", image_lines[row]),
        looked_for=looked_for,
        left_out=omissions.found(),
    )


def _classes(file: Path) -> list[str]:
    classes: list[str] = []
    for line, number, name in _numbered(file):
        classes.append(name)
        if number != len(classes):
            raise CatalogError(f"{place(file, line)}: class {number}, but {len(classes)} comes next")
    return classes


def _numbers_by_image(file: Path, images: dict[int, tuple[int, str]], width: int) -> dict[int, tuple[int, list[float]]]:
    """Image number > (line, `width` numbers), for exactly the images of images.txt."""
    by_image: dict[int, tuple[int, list[float]]] = {}
    for line, number, rest in _numbered(file):
        if number not in images:
            raise CatalogError(f"{place(file, line)}: image {number} is not in images.txt")
        try:
            numbers = [float(token) for token in rest.split()]
        except ValueError as error:
            raise CatalogError(f"{place(file, line)}: {error}") from error
        if len(numbers) != width:
            raise CatalogError(f"{place(file, line)}: {len(numbers)} numbers after the image's, not {width}")
        by_image[number] = (line, numbers)
    for number, (line, _) in images.items():
        if number not in by_image:
            listed = place(file.with_name("images.txt"), line)
            raise CatalogError(f"{listed}: image {number} is not in {file.name}")
    return by_image


def _numbered(file: Path) -> Iterator[tuple[int, int, str]]:
    """(line, number, rest) of lines "number rest". Raises CatalogError for a number that comes twice."""
    numbers: set[int] = set()
    for line, text in numbered_lines(file):
        number, _, rest = text.strip().partition(" ")
        if not (number.isascii() and number.isdigit()) or not rest.strip():
            raise CatalogError(f"{place(file, line)}: expected 'number value', got {text[:80]!r}")
        if int(number) in numbers:
            raise CatalogError(f"{place(file, line)}: number {number} comes twice")
        numbers.add(int(number))
        yield line, int(number), rest.strip()
