"""What of a run may differ when it is resumed, and where its settings come from. Trains nothing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from locloc.pipeline.backbones import precision as precision_room
from locloc.pipeline.config import settings_toml
from locloc.pipeline.errors import RecipeError, TrainError
from locloc.pipeline.store import Version
from locloc.trainer.models.checkpoint import save_checkpoint
from locloc.trainer.models.ppd import LinearClassifier
from locloc.trainer.recipe import load_train_recipe
from locloc.trainer.training.request import RuntimeConfig, TrainArguments, resolve_request, shown_recipe
from locloc.trainer.training.resume import check_resumed, read_run, resumed_recipe
from locloc.trainer.training.run_metadata import begin_run, cache_key, record_changes, run_fingerprint, run_metadata

CHANGES = ("generator.fit.epochs=5", "generator.fit.batch_size=8", "classifier.fit.epochs=7")


@pytest.fixture(scope="module")
def version(tmp_path_factory) -> Version:
    from ...conftest import Content, write_version

    folder = tmp_path_factory.mktemp("version")
    return write_version(folder / "s.store", Content.made(["a", "b", "c", "d"]), folder / "images")


@pytest.fixture
def out(version, tmp_path) -> Path:
    """A run of `locloc` with CHANGES whose generator has trained three epochs."""
    recipe = load_train_recipe("locloc", "test", CHANGES)
    asked = {"stage": "generator", "images": "/moved", "weights": None, "allow_changed_images": True}
    metadata = run_metadata(version, recipe, "locloc", "bf16", False)
    begin_run(tmp_path / "run", recipe, metadata | {"request": asked}, None)
    (tmp_path / "run" / "generator").mkdir()
    (tmp_path / "run" / "generator" / "state.pt").touch()
    shape = {"channels": 3, "classes": 5}
    header = {"shape": shape, "epoch": 3}
    save_checkpoint(tmp_path / "run" / "generator" / "last.safetensors", LinearClassifier(**shape), "linear", header)
    return tmp_path / "run"


def differing(version: Version, out: Path, *changes: str, recipe: str | None = None, **about: Any) -> list[str]:
    run = read_run(out)
    settings, name = resumed_recipe(run, recipe, "test", changes)
    now = run_metadata(version, settings, name, "bf16", False) | about
    return check_resumed(run, now, run_fingerprint(version, run.recipe, now))


@pytest.mark.parametrize(
    ("changes", "recipe"),
    [((), None), (CHANGES, None), (CHANGES[:1], None), (CHANGES, "locloc")],
)
def test_settings_are_the_run_s_own_whether_they_are_given_again_or_not(version, out, changes, recipe):
    assert differing(version, out, *changes, recipe=recipe) == []


def test_more_or_fewer_epochs_and_what_else_may_change_is_said(version, out):
    (line,) = differing(version, out, "generator.fit.epochs=9")
    assert line.startswith("generator.fit.epochs = 5, now 9: more epochs from the next step on; ")
    assert line.endswith("its constant schedule goes on without a seam")
    (line,) = differing(version, out, "generator.fit.epochs=4")
    assert line.startswith("generator.fit.epochs = 5, now 4: fewer epochs from the next step on; its constant schedule")
    (line,) = differing(version, out, "generator.fit.epochs=3")
    assert line == "generator.fit.epochs = 5, now 3: generator has 3 epochs already, and is trained no further"
    (line,) = differing(version, out, "generator.fit.lr_base=0.1")
    assert line.endswith("now 0.1: the learning rate from the next step on")
    lines = differing(version, out, "classifier.fit.batch_size=3", "classifier.flip=false")
    assert all(line.endswith("classifier has not begun, and takes it from its start") for line in lines)
    assert len(lines) == 2
    (out / "classifier").mkdir()
    (out / "classifier" / "state.pt").touch()
    (line,) = differing(version, out, "classifier.fit.epochs=9")
    assert "its cosine schedule spans all epochs, so the learning rate jumps" in line
    (line,) = differing(version, out, "classifier.fit.epochs=2")
    assert ": fewer epochs from the next step on; its cosine schedule spans all epochs, so the learning rate j" in line


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("generator.fit.batch_size=9", "batch_size = 8, not 9; that cannot change in a run: the saved state counts"),
        ("generator.fit.optimizer=sgd", 'optimizer = "adamw", not "sgd"; that cannot change in a run: the saved state'),
        ("generator.kind=paper", 'kind = "tapered", not "paper"; that cannot change in a run: it decides the model'),
        ("seed=7", "seed = 0, not 7; that cannot change in a run: it chose the images"),
        ("generator.fit.epochs=2", "generator has 3 epochs already, so generator.fit.epochs cannot become 2"),
    ],
)
def test_what_cannot_change_is_refused_with_its_reason(version, out, change, complaint):
    with pytest.raises(TrainError) as caught:
        differing(version, out, change)
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


def test_another_version_precision_or_choice_is_another_run(version, out):
    for name, value in (("precision", "fp32"), ("cache_tokens", True), ("only", {"text": "split=train"})):
        with pytest.raises(TrainError, match=f"is another run: {name}"):
            differing(version, out, **{name: value})


def test_a_recipe_that_was_edited_in_the_run_s_folder_counts(version, out):
    recipe = load_train_recipe(str(out / "recipe.toml"), "test", ("generator.fit.epochs=6",))
    (out / "recipe.toml").write_text(settings_toml(recipe))
    assert len(differing(version, out)) == 1
    (out / "recipe.toml").write_text("[generator.fit]\nepoch = 6\n")
    with pytest.raises(RecipeError, match="recipe.toml: generator.fit.epoch: no such setting"):
        differing(version, out)
    (out / "recipe.toml").unlink()
    assert differing(version, out) == []


def test_changes_are_recorded_and_caches_keep_their_names(version, out):
    before = read_run(out)
    recipe, name = resumed_recipe(before, None, "test", ("generator.fit.epochs=9",))
    now = run_metadata(version, recipe, name, "bf16", False)
    lines = differing(version, out, "generator.fit.epochs=9")
    record_changes(before, recipe, now, lines)
    after = read_run(out)
    assert after.metadata["changed"][0]["settings"] == lines
    assert cache_key(after.metadata) == before.metadata["fingerprint"] != after.metadata["fingerprint"]
    assert differing(version, out) == []
    assert len(differing(version, out, "generator.fit.epochs=11")) == 1


def test_runs_of_earlier_releases_resume(version, out):
    old = json.loads((out / "run.json").read_text())
    for name in ("only", "request"):
        del old[name]
    (out / "run.json").write_text(json.dumps(old))
    assert differing(version, out) == []
    request = resolve_request(TrainArguments(None, out, resume=True))
    assert (request.stage, request.images, request.recipe.generator.fit.epochs) == ("all", None, 5)


def test_a_resumed_run_takes_over_what_is_not_given_again(version, out):
    request = resolve_request(TrainArguments(None, out, resume=True))
    assert (request.version, request.stage, request.images) == (version.name, "generator", "/moved")
    assert request.allow_changed_images and request.runtime.precision == "bf16" and request.recipe_name == "locloc"
    request = resolve_request(TrainArguments(None, out, stage="all", images="/here", precision="fp32", resume=True))
    assert (request.stage, request.images, request.runtime.precision) == ("all", "/here", "fp32")
    request = resolve_request(TrainArguments(None, out, precision="auto", resume=True))
    assert (request.runtime.precision, request.auto) == ("bf16", None)  # the run's own, on any machine


@pytest.mark.parametrize(("amx", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_decided_when_a_run_begins(version, out, monkeypatch, amx, precision):
    monkeypatch.setattr(precision_room, "has_amx", lambda: amx)
    runtime = RuntimeConfig(accelerator="cpu", precision="auto")
    for given in (
        TrainArguments(version.name, out, precision="auto", runtime=replace(runtime, precision="fp32")),
        TrainArguments(version.name, out, runtime=runtime),
    ):
        request = resolve_request(given)
        assert request.runtime.precision == precision and request.auto.startswith("auto: this CPU, ")


@pytest.mark.parametrize(("content", "complaint"), [("{", "is damaged"), ("{}", "is damaged"), ("[]", "is damaged")])
def test_a_damaged_run_is_named(out, content, complaint):
    (out / "run.json").write_text(content)
    with pytest.raises(TrainError, match=complaint):
        read_run(out)
    with pytest.raises(TrainError, match="holds no run to resume"):
        read_run(out / "none")


def test_the_recipe_that_is_shown_loads_back(version, tmp_path):
    given = TrainArguments(version.name, None, changes=("generator.fit.epochs=3",))
    shown = shown_recipe(given)
    assert shown.startswith("# Training recipe locloc, for data of the kind test.\n#   --set generator.fit.epochs=3\n")
    (tmp_path / "shown.toml").write_text(shown)
    again = load_train_recipe(str(tmp_path / "shown.toml"), "test")
    assert again == resolve_request(given).recipe and again.generator.fit.epochs == 3
