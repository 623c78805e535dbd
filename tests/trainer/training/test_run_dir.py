"""The files of a task: written atomically, by rank 0 alone, without lines of repeated steps."""

import json
from pathlib import Path

import pytest
import safetensors
import torch

from locloc.pipeline.errors import StoreLockedError, TrainError
from locloc.trainer.models.checkpoint import load_checkpoint
from locloc.trainer.models.ppd import LinearClassifier
from locloc.trainer.training.run_dir import SCHEMA, TaskDir

SHAPE = {"channels": 3, "classes": 5}


@pytest.fixture
def place(tmp_path) -> Path:
    return tmp_path / "run" / "linear"


def stage(place: Path, writes: bool = True) -> TaskDir:
    return TaskDir(place, "linear", {"shape": SHAPE, "version": "store@v1", "epoch": "of the run"}, writes)


def lines(place: Path) -> list[dict]:
    return [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]


def names(place: Path) -> set[str]:
    return {file.name for file in place.iterdir() if not file.name.startswith("events.out")}


def test_a_run_that_another_process_took_over_is_not_written_to(place):
    def taken_over() -> None:
        raise StoreLockedError("taken over")

    with stage(place) as folder:
        folder.log(1, loss=0.5)
        folder.save_state({"schema": SCHEMA})
    before = {file: file.read_bytes() for file in place.iterdir()}
    with TaskDir(place, "linear", {}, check=taken_over) as folder:
        for write in (
            lambda: folder.log(2, loss=0.5),
            lambda: folder.forget_after(0),
            lambda: folder.save_state({}),
            lambda: folder.save_validation({}),
            lambda: folder.save_weights("best", LinearClassifier(**SHAPE), {}),
        ):
            with pytest.raises(StoreLockedError, match="taken over"):
                write()
    assert {file: file.read_bytes() for file in place.iterdir()} == before


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_are_a_line_each_and_tensorboard_s_events(place):
    with stage(place) as folder:
        folder.log(1, epoch=0, loss=0.25, lr=1e-3)
        assert lines(place) == [{"step": 1, "epoch": 0, "loss": 0.25, "lr": 1e-3}], "the line is flushed at once"
        folder.log(2, epoch=0, val_top1=0.5)
    assert lines(place)[1:] == [{"step": 2, "epoch": 0, "val_top1": 0.5}]
    (events,) = place.glob("events.out*")
    content = events.read_bytes()
    assert b"linear/loss" in content and b"linear/val_top1" in content


def test_metrics_of_a_resumed_run_follow_the_others(place):
    for step in (1, 2):
        with stage(place) as folder:
            folder.log(step, loss=0.5)
    assert [line["step"] for line in lines(place)] == [1, 2]


def test_lines_of_steps_that_are_repeated_are_deleted(place):
    with stage(place) as folder:
        for step in range(1, 7):
            folder.log(step, loss=step / 10)
            if step % 2 == 0:
                folder.log(step, val_top1=step / 10)
    with stage(place) as folder:
        folder.forget_after(4)
        assert [(line["step"], len(line)) for line in lines(place)] == [(1, 2), (2, 2), (2, 2), (3, 2), (4, 2), (4, 2)]
        folder.log(5, loss=0.9)
    assert lines(place)[-1] == {"step": 5, "loss": 0.9} and len(lines(place)) == 7
    with stage(place) as folder:
        folder.forget_after(0)
    assert lines(place) == []
    assert names(place) == {"metrics.jsonl"}


@pytest.mark.parametrize("cut", ["", "{", '{"step": 3, "lo', '{"step": 3, "loss": 0.1', '{"step": 3, "loss": 0.1}'])
def test_an_incomplete_line_is_deleted(cut, place):
    with stage(place) as folder:
        folder.log(1, loss=0.5)
        folder.log(2, loss=0.4)
    with (place / "metrics.jsonl").open("a") as file:
        file.write(cut)
    with stage(place) as folder:
        folder.forget_after(2)
        folder.log(3, loss=0.3)
    assert [line["loss"] for line in lines(place)] == [0.5, 0.4, 0.3]


def test_a_whole_last_line_without_its_end_is_kept(place):
    place.mkdir(parents=True)
    (place / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.4}')
    with stage(place) as folder:
        folder.forget_after(2)
        folder.log(3, loss=0.3)
    assert [line["loss"] for line in lines(place)] == [0.5, 0.4, 0.3]


def test_without_metrics_nothing_is_deleted(place):
    with stage(place) as folder:
        folder.forget_after(5)
    assert names(place) == set()


# --- weights ---------------------------------------------------------------------------------------------------------


def test_weights_come_with_a_header_of_run_and_epoch(place):
    model = LinearClassifier(**SHAPE)
    with stage(place) as folder:
        folder.save_weights("best", model, {"epoch": 3, "figures": {"top1": 0.5}})
    assert names(place) == {"best.safetensors"}
    found, header = load_checkpoint(place / "best.safetensors")
    assert torch.equal(found.weight, model.weight) and torch.equal(found.bias, model.bias)
    assert (header["kind"], header["shape"], header["version"]) == ("linear", SHAPE, "store@v1")
    assert (header["epoch"], header["figures"]) == (3, {"top1": 0.5})


def test_better_weights_replace_earlier_ones(place):
    with stage(place) as folder:
        for epoch in (1, 2):
            model = LinearClassifier(**SHAPE)
            folder.save_weights("best", model, {"epoch": epoch})
            folder.save_weights("last", model, {"epoch": epoch})
    assert names(place) == {"best.safetensors", "last.safetensors"}
    assert (place / "best.safetensors").read_bytes() == (place / "last.safetensors").read_bytes()
    found, header = load_checkpoint(place / "best.safetensors")
    assert header["epoch"] == 2 and torch.equal(found.weight, model.weight)


def test_the_same_weights_are_the_same_bytes(tmp_path):
    model = LinearClassifier(**SHAPE)
    for name in ("one", "other"):
        with stage(tmp_path / name) as folder:
            folder.save_weights("best", model, {"epoch": 1})
    assert (tmp_path / "one" / "best.safetensors").read_bytes() == (
        tmp_path / "other" / "best.safetensors"
    ).read_bytes()


def test_another_rank_than_0_changes_nothing(place):
    with stage(place, writes=False) as folder:
        folder.log(1, loss=0.5)
        folder.save_weights("best", LinearClassifier(**SHAPE), {})
        folder.forget_after(0)
    assert not place.exists()
    with stage(place) as folder:
        folder.log(1, loss=0.5)
        folder.save_state({"schema": SCHEMA, "step": 1})
    with stage(place, writes=False) as folder:
        folder.forget_after(0)
        folder.log(2, loss=0.4)
        folder.save_weights("last", LinearClassifier(**SHAPE), {})
        assert folder.load_state()["step"] == 1
    assert names(place) == {"metrics.jsonl", "state.pt"} and len(lines(place)) == 1


def test_another_rank_than_0_saves_no_state(place):
    with stage(place, writes=False) as folder:
        folder.save_state({"schema": SCHEMA})
    assert not place.exists()


# --- state -----------------------------------------------------------------------------------------------------------


def test_no_state_yet(place):
    with stage(place) as folder:
        assert folder.load_state() is None


def test_a_state_comes_back_bit_for_bit(place):
    model = LinearClassifier(**SHAPE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.rand(4, 12)).sum().backward()
    optimizer.step()
    content = {
        "schema": SCHEMA, "epoch": 2, "loss_sum": 0.1 + 0.2, "best": {"epoch": 1, "figures": {"top1": 0.3}},
        "ema": None, "model": model.state_dict(), "optimizer": optimizer.state_dict(), "precision": {},
    }  # fmt: skip
    with stage(place) as folder:
        folder.save_state({"schema": SCHEMA, "epoch": 1})
        folder.save_state(content)
        found = folder.load_state()
    assert names(place) == {"state.pt"}
    assert {name: found[name] for name in ("epoch", "loss_sum", "best", "ema")} == {
        name: content[name] for name in ("epoch", "loss_sum", "best", "ema")
    }
    assert all(torch.equal(found["model"][name], tensor) for name, tensor in content["model"].items())
    again = torch.optim.AdamW(LinearClassifier(**SHAPE).parameters(), lr=1)
    again.load_state_dict(found["optimizer"])
    for mine, theirs in zip(again.state.values(), optimizer.state.values(), strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert again.param_groups[0]["lr"] == 1e-3


@pytest.mark.parametrize("schema", [0, SCHEMA + 1])
def test_a_state_of_another_schema_is_refused(schema, place):
    with stage(place) as folder:
        folder.save_state({"schema": schema})
        with pytest.raises(TrainError) as raised:
            folder.load_state()
    assert str(raised.value) == (
        f"{place / 'state.pt'} has schema {schema}, this release resumes {SCHEMA}; begin anew with another --out"
    )


def test_a_state_that_is_damaged_is_refused_in_one_line(place):
    with stage(place) as folder:
        folder.save_state({"schema": SCHEMA, "model": torch.rand(100)})
        (place / "state.pt").write_bytes((place / "state.pt").read_bytes()[:300])
        with pytest.raises(TrainError, match="state.pt"):
            folder.load_state()


def test_a_state_without_its_best_weights_is_refused_in_one_line(place):
    with stage(place) as folder:
        with pytest.raises(TrainError, match=r"best.safetensors is missing; delete .*linear, and --resume trains the"):
            folder.check_best()
        folder.save_weights("best", LinearClassifier(**SHAPE), {"epoch": 1})
        folder.check_best()
        best = place / "best.safetensors"
        for damaged in (b"", best.read_bytes()[:-1]):
            best.write_bytes(damaged)
            with pytest.raises(TrainError, match=r"best.safetensors is damaged; delete .*linear, and --resume trains"):
                folder.check_best()


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_nothing_in_a_state_is_executed(place):
    place.mkdir(parents=True)
    torch.save({"schema": SCHEMA, "model": Payload(place / "executed")}, place / "state.pt")
    with pytest.raises(Exception, match="[Ww]eights.only|state.pt"):
        stage(place).load_state()
    assert names(place) == {"state.pt"}


# --- whole or not at all ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["state.pt", "best.safetensors", "metrics.jsonl"])
def test_a_write_that_is_cut_off_leaves_what_was_there(name, place, monkeypatch):
    class Killed(BaseException):
        pass

    def write(folder: TaskDir, number: int) -> None:
        folder.save_state({"schema": SCHEMA, "step": number})
        folder.save_weights("best", LinearClassifier(**SHAPE), {"epoch": number})
        folder.forget_after(number)

    with stage(place) as folder:
        for step in (1, 2, 3):
            folder.log(step, loss=0.5)
        write(folder, 3)
    before = (place / name).read_bytes()

    replace = Path.replace

    def killed(part: Path, target: Path) -> Path:
        if Path(target).name == name:
            raise Killed
        return replace(part, target)

    monkeypatch.setattr(Path, "replace", killed)
    with stage(place) as folder, pytest.raises(Killed):
        write(folder, 1)
    assert (place / name).read_bytes() == before
    monkeypatch.undo()
    with stage(place) as folder:
        write(folder, 1)
        assert folder.load_state()["step"] == 1
    assert (place / name).read_bytes() != before
    assert names(place) == {"metrics.jsonl", "state.pt", "best.safetensors"}, "a part was left"


def test_a_checkpoint_s_metadata_is_one_key(place):
    """Several keys could be written in any order, and so give other bytes."""
    with stage(place) as folder:
        folder.save_weights("best", LinearClassifier(**SHAPE), {})
    with safetensors.safe_open(place / "best.safetensors", "pt") as content:
        assert list(content.metadata()) == ["locloc"]
