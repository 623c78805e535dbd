"""An isolated block, whose decoder crashes, hangs or prints (tests/sabotage)."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.backbones.vit import BackboneSpec
from locloc.pipeline.build import isolation as isolated
from locloc.pipeline.build.isolation import make_isolated
from locloc.pipeline.build.tasks import Block, TaskContext, attend, refine
from locloc.pipeline.errors import BuildError, UnreachableError
from locloc.pipeline.recipe import Recipe
from locloc.pipeline.status import Status
from locloc.pipeline.store.schema import content_crc

RECIPE = Recipe.model_validate(
    {
        "mask_px": 64,
        "saliency": {"foreground_from": 0.3, "background_below": 0.2, "threshold": 0.25},
        "backbone": {"name": "vit_tiny_patch16_224", "size_px": 64},
    }
)
SPEC = BackboneSpec("vit_tiny_patch16_224", 64, weights="random")
SABOTAGE = Path(__file__).parents[2] / "sabotage"


@pytest.fixture(autouse=True)
def sabotage(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(SABOTAGE))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Good images: 0, 2, 3 (which prints), 5. Bad ones: 1 crashes, 4 hangs, 6 is not an image, 7 is missing."""
    for number in (0, 2, 3, 5):
        rng = np.random.default_rng(number)
        small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        small.resize((96, 72), Image.Resampling.BICUBIC).save(tmp_path / f"{number}.jpg")
    with (tmp_path / "3.jpg").open("ab") as file:
        file.write(b"PRINT")
    (tmp_path / "1.jpg").write_bytes(b"CRASH")
    (tmp_path / "4.jpg").write_bytes(b"HANG")
    (tmp_path / "6.jpg").write_bytes(b"no image")
    return tmp_path


def block(*numbers: int) -> Block:
    return Block(0, 0, [str(n) for n in numbers], [f"{n}.jpg" for n in numbers])


def children() -> set[int]:
    return {int(pid) for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()}


def test_bad_images_fail_and_the_others_are_as_without_isolation(folder):
    before = children()
    job = TaskContext(folder, RECIPE, SPEC, image_limit_s=3.0)
    start = time.monotonic()
    packed, attention, result = make_isolated(block(0, 1, 2, 3, 4, 5, 6, 7), job)
    print(f"8 images, 2 of them poison: {time.monotonic() - start:.1f} s")
    status = result.columns["status"].tolist()
    crashed, hung = 1, 4
    assert status[crashed] == status[hung] == Status.CRASHED
    assert result.errors[crashed] == "it killed its process (SIGSEGV)"
    assert result.errors[hung] == "took longer than 3 s (--image-limit-s)"

    quick = attend(block(0, 2, 3, 5, 6, 7), job)
    quick_packed, quick_result = refine(quick, job)
    others = [0, 2, 3, 5, 6, 7]
    assert np.array_equal(packed[others], quick_packed)
    assert np.array_equal(attention[others], quick.attention)
    for name, values in quick_result.columns.items():
        assert np.array_equal(result.columns[name][others], values), name
    assert {others[row]: text for row, text in quick_result.errors.items()} == {
        row: text for row, text in result.errors.items() if row not in (crashed, hung)
    }
    assert (quick_result.columns["status"][-2:] == (Status.UNDECODABLE, Status.MISSING)).all()
    assert packed[[0, 2, 3, 5]].any((1, 2)).all(), "the others have masks to compare"
    assert not packed[[crashed, hung]].any() and not attention[[crashed, hung]].any()
    assert np.array_equal(result.columns["content_crc"], content_crc(packed, attention))
    assert children() == before, "no process is left"


def test_a_block_of_bad_images_alone(folder):
    packed, attention, result = make_isolated(block(1), TaskContext(folder, RECIPE, SPEC))
    assert (packed.shape, attention.shape) == ((1, 64, 8), (1, 3, 4, 4))
    assert result.columns["status"].tolist() == [Status.CRASHED]
    assert np.array_equal(result.columns["content_crc"], content_crc(packed, attention))


def test_an_error_that_no_image_caused_is_raised(folder):
    before = children()
    (folder / "8.jpg").write_bytes(b"UNREACHABLE")
    with pytest.raises(UnreachableError, match="the server does not answer"):
        make_isolated(block(0, 8, 2), TaskContext(folder, RECIPE, SPEC))
    assert children() == before


@pytest.mark.parametrize("paths", [["0.jpg"], ["x" * 200_000]], ids=["small", "more than a pipe holds"])
def test_a_supervisor_that_cannot_start_is_an_error(folder, monkeypatch, tmp_path_factory, paths):
    broken = tmp_path_factory.mktemp("broken")
    (broken / "sitecustomize.py").write_text("import os; os._exit(7)")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    with pytest.raises(BuildError, match="isolated block ended: its process ended with 7"):
        make_isolated(Block(0, 0, ["0"], paths), TaskContext(folder, RECIPE, SPEC))


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (-signal.SIGSEGV, "it killed its process (SIGSEGV)"),
        (-signal.SIGKILL, "its process was killed (SIGKILL; out of memory?)"),
        (-signal.SIGALRM, "took longer than 0.5 s (--image-limit-s)"),
        (3, "its process ended with 3"),
        (-40, "it killed its process (signal 40)"),
    ],
)
def test_the_cause_of_a_childs_death(code, text):
    assert isolated._cause_of_death(code, 0.5) == text


def test_a_child_does_not_outlive_its_worker(folder):
    """The worker is killed while its child hangs, and no time limit would end the child."""
    code = (
        "import pathlib, sys\n"
        "from locloc.pipeline.backbones.vit import BackboneSpec\n"
        "from locloc.pipeline.build.tasks import Block, TaskContext\n"
        "from locloc.pipeline.build.isolation import make_isolated\n"
        "from locloc.pipeline.recipe import Recipe\n"
        "recipe = Recipe.model_validate_json(sys.argv[2])\n"
        "spec = BackboneSpec('vit_tiny_patch16_224', 64, weights='random')\n"
        "make_isolated(Block(0, 0, ['4'], ['4.jpg']), TaskContext(pathlib.Path(sys.argv[1]), recipe, spec))\n"
    )
    arguments = [sys.executable, "-c", code, str(folder), RECIPE.model_dump_json()]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as worker:
        said = next((line for line in worker.stderr if line.startswith("hangs: ")), "")
        worker.kill()
        child = int(said.removeprefix("hangs: "))
        assert child != worker.pid
    give_up = time.monotonic() + 10
    while (found := state(child)) not in "Z-":
        assert time.monotonic() < give_up, f"the child is there, in state {found}"
        time.sleep(0.05)


def state(pid: int) -> str:
    """The kernel's state of a process: R, S, Z, ...; "-" where it does not exist."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return "-"
