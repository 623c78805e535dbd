"""The benchmark: exact counts, verdicts, fair clocks, and the command on a bare machine, engines included."""

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from locloc.cli import app
from locloc.pipeline.backbones.spec import BackboneSpec
from locloc.pipeline.backbones.vit import Backbone
from locloc.pipeline.bench import ENGINES, SLOW
from locloc.pipeline.errors import BenchError
from locloc.trainer.bench import KEEP_TOKENS, SHARED_BLOCKS
from locloc.trainer.bench.counts import PaperCounter, count_modules, count_pipeline, count_pipelines
from locloc.trainer.bench.inference_stages import STAGES, load_images, model_run, random_views, whole_run
from locloc.trainer.bench.printed import NOT, REPRODUCED, TYPO, rows, verdict
from locloc.trainer.bench.systems import (
    AT_224,
    GUIDED,
    PAPER,
    RELEASED,
    SHARED,
    TAPERED,
    create_system,
    create_vit,
    forms,
)
from locloc.trainer.bench.timing import ProcessClock, Reading, again, in_turn, noise, ratio, spread
from locloc.trainer.bench.tuned import Choice, Trial, apply_choice, best, choices
from locloc.trainer.recipe import load_train_recipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def modules():
    return {one.module: one for one in count_modules(200, KEEP_TOKENS, SHARED_BLOCKS)}


@pytest.fixture(scope="module")
def pipelines():
    return {one.form: one for one in count_pipelines(True, 200, KEEP_TOKENS, SHARED_BLOCKS)}


# --- counts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "parameters", "mmac"),
    [  # METHOD 7
        ("ViT", 21_665_664, 4598.5),
        ("PPD linear, 200 classes", 307_400, 0.3),
        ("PPD decoder, 14 x 14", 17_569_537, 2826.7),
        ("PPD decoder, 16 x 16", 17_569_537, 3692.0),
        ("GEG paper", 4_052_738, 4511.9),
        ("GEG tapered", 1_679_650, 397.9),
        ("LFDM, 200 classes", 23_313_424, 4936.3),
        ("LFDM, 1000 classes", 26_079_824, 5478.2),
    ],
)
def test_parameters_and_arithmetic_are_those_of_the_method(modules, module, parameters, mmac):
    assert modules[module].parameters == parameters
    assert round(modules[module].macs / 1e6, 1) == mmac


@pytest.mark.parametrize(
    ("form", "mmac"),
    [(RELEASED, 14432), (AT_224, 12024), (PAPER, 14047), (SHARED, 7426)],
)
def test_whole_systems_are_those_of_the_method(pipelines, form, mmac):
    assert round(pipelines[form].macs / 1e6) == mmac


def test_the_backbone_at_256_px(pipelines):
    assert round((pipelines[RELEASED].backbone_macs - pipelines[SHARED].backbone_macs) / 1e6, 1) == 6141.3


def test_with_1000_classes_the_papers_system():
    paper = next(form for form in forms(False, 1.0, 0) if form.name == PAPER)
    assert round(count_pipeline(paper, 1000).macs / 1e6) == 14589


def test_the_papers_counter_gives_its_two_figures_to_the_last_digit(modules):
    assert modules["PPD decoder, 14 x 14"].paper_counter == 1_392_838_720
    assert modules["GEG paper"].paper_counter == 253_859_776


def test_the_papers_counter_on_layers_by_hand():
    conv, up = torch.nn.Conv2d(3, 5, 3, padding=1), torch.nn.ConvTranspose2d(5, 2, 4, stride=2, padding=1)
    norm, image = torch.nn.BatchNorm2d(5).eval(), torch.zeros(2, 3, 4, 6)
    with PaperCounter() as counter, torch.no_grad():
        features = norm(conv(image)).relu()
    assert counter.operations == 2 * 24 * (3 * 5 * 9 + 5) + 2 * (2 * 5 * 24) + 2 * 5 * 24
    with PaperCounter() as counter, torch.no_grad():
        up(features).sigmoid()
    assert counter.operations == 0
    with PaperCounter() as counter, torch.no_grad():
        torch.nn.Linear(7, 3)(torch.zeros(4, 7))
        torch.nn.functional.max_pool2d(image, 2)
    assert counter.operations == 4 * 21 + image.numel()


def test_the_tapered_generator_costs_less_than_the_paper_claims(modules):
    tapered, decoder = modules["GEG tapered"], modules["PPD decoder, 14 x 14"]
    assert tapered.macs <= 0.18 * decoder.macs
    assert tapered.paper_counter <= 0.18 * decoder.paper_counter
    assert tapered.parameters <= 3.86 * 2**20


def test_guided_tokens_and_shared_blocks_cost_what_they_should(modules, pipelines):
    whole, guided = modules["LFDM, 200 classes"], modules["LFDM, 200 classes, 8 blocks, 147 of 196 tokens"]
    a_block, shared = 12 * 384 * 384 + 13 * 384, 4 * (12 * 384 * 384 * 197 + 2 * 384 * 197**2)
    layers, attention = 8 * 49 * 12 * 384 * 384, 8 * 2 * 384 * (197**2 - 148**2)
    assert whole.macs - guided.macs == shared + layers + attention
    assert whole.parameters - guided.parameters == 4 * a_block
    assert pipelines[TAPERED].macs <= 0.689 * pipelines[RELEASED].macs
    assert round(pipelines[GUIDED].macs / pipelines[AT_224].macs, 3) == 0.634


def test_guided_tokens_alone_and_shared_blocks_alone():
    half = {one.module: one.macs for one in count_modules(200, 0.5, 0)}
    whole, guided = half["LFDM, 200 classes"], half["LFDM, 200 classes, 12 blocks, 98 of 196 tokens"]
    assert whole - guided == 12 * 98 * 12 * 384 * 384 + 12 * 2 * 384 * (197**2 - 99**2)
    shared = {one.module: one.macs for one in count_modules(200, 1.0, 0.33)}
    four = 4 * (12 * 384 * 384 * 197 + 2 * 384 * 197**2)
    assert whole - shared["LFDM, 200 classes, 8 blocks, 196 of 196 tokens"] == four
    assert [one.module for one in count_modules(200, 1.0, 0) if "LFDM" in one.module] == [
        "LFDM, 200 classes", "LFDM, 1000 classes",
    ]  # fmt: skip


# --- printed ---------------------------------------------------------------------------------------------------------


def test_verdicts(modules):
    found = {(row.table, row.what): row for row in rows(list(modules.values()))}
    verdicts = {key: row.verdict for key, row in found.items()}
    assert [key for key, one in verdicts.items() if one == NOT] == [("2", "LocLoc total"), ("3", "LocLoc classifier")]
    assert [key for key, one in verdicts.items() if one == TYPO] == [
        ("1", "PPD classifier"), ("1", "LocLoc total"), ("2", "PPD total"),
    ]  # fmt: skip
    generators = found["3", "generators, less"]
    assert generators.verdict == REPRODUCED and round(generators.in_full, 1) == -59.6
    assert "1.60 times" in generators.note


@pytest.mark.parametrize(
    ("printed", "values", "wanted"),
    [
        ("1.39", (1.39283872,), REPRODUCED),
        ("1.39", (2.8267, 1.3928), REPRODUCED),
        ("0.30", (0.3072,), REPRODUCED),  # cut, not rounded
        ("0.30", (0.29316,), TYPO),
        ("49.49", (49.3986, 49.39), TYPO),
        ("19", (20,), TYPO),
        ("13", (19,), NOT),
        ("7.50", (5121.45, None), NOT),
        ("16.76", (16.7556,), REPRODUCED),
        ("16.76", (26.76,), NOT),
    ],
)
def test_a_verdict_is_a_comparison(printed, values, wanted):
    assert verdict(printed, *values) == wanted


# --- clocks ----------------------------------------------------------------------------------------------------------


class FakeClock:
    """A run takes what its first lap is called."""

    unit = "fake seconds"

    def __init__(self, drift: float = 0.0):
        self.now, self.drift = 0.0, drift

    def time(self, run) -> Reading:
        laps = []
        run(laps.append)
        self.now += 1
        seconds = {name: float(name) * (1 + self.drift * self.now) for name in laps}
        return Reading(seconds, sum(seconds.values()))


def test_systems_are_measured_in_turn_and_every_second_round_backwards():
    seen = []

    def run(name):
        return lambda lap: (seen.append(name), lap("1"))

    found = in_turn({name: run(name) for name in "abc"}, FakeClock(), rounds=3, warm_up=1)
    assert "".join(seen) == "abc" + "abc" + "cba" + "abc"
    assert {name: len(readings) for name, readings in found.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_copy_of_a_system_shows_the_noise_and_a_slower_one_its_ratio():
    runs = {"a": lambda lap: lap("2"), "b": lambda lap: lap("3"), again("a"): lambda lap: lap("2")}
    quiet = in_turn(runs, FakeClock(), rounds=4, warm_up=0)
    assert noise(quiet, "a") == 1.0
    assert ratio(quiet["b"], quiet["a"]) == 1.5
    slower = runs | {again("a"): lambda lap: lap("2.5")}
    assert noise(in_turn(slower, FakeClock(), rounds=4, warm_up=0), "a") == 1.25


def test_a_machine_that_grows_slower_does_not_favour_who_comes_first():
    runs = {"a": lambda lap: lap("2"), again("a"): lambda lap: lap("2")}
    drifting = in_turn(runs, FakeClock(drift=0.01), rounds=10, warm_up=0)
    assert abs(noise(drifting, "a") - 1) < 0.001


def test_spread_by_hand():
    found = spread([3.0, 1.0, 2.0, 5.0, 4.0])
    assert (found.median, found.p10, found.p90, found.runs) == (3.0, pytest.approx(1.4), pytest.approx(4.6), 5)
    assert spread([7.0]).p90 == 7.0


def test_process_time_is_split_over_the_laps():
    def run(lap):
        sum(range(300_000))
        lap("work")
        lap("nothing")
        sum(range(300_000))
        lap("work")

    reading = ProcessClock().time(run)
    assert list(reading.stages) == ["work", "nothing"]
    assert reading.stages["work"] > 10 * reading.stages["nothing"] >= 0
    assert reading.total_s == pytest.approx(sum(reading.stages.values()))


# --- systems ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", forms(True, KEEP_TOKENS, SHARED_BLOCKS), ids=lambda form: form.name)
def test_every_system_names_and_localises(form):
    torch.manual_seed(0)
    system = create_system(form, 5, "pocket")
    views = random_views(form, 2, CPU)
    logits, maps = model_run(system, views)(lambda _: None)
    side = {"ppd": 64 if form.map_px == 256 else 56, "locloc": 112}[form.family]
    assert logits.shape == (2, 5) and maps.shape == (2, 1, side, side)
    reading = ProcessClock().time(whole_run(system, load_images(None, 2), CPU))
    assert sorted(reading.stages) == sorted(STAGES)
    labels, boxes = whole_run(system, load_images(None, 2), CPU)(lambda _: None)
    assert labels.shape == (2,) and boxes.shape == (2, 4)
    assert (boxes[:, 2:] > boxes[:, :2]).all() and boxes.max() <= form.map_px


def test_tokens_are_those_of_the_backbone():
    """What the benchmark's own ViT computes is what a localiser's does, with the same weights."""
    system, backbone = create_system(forms(False, 0.5, 0.33)[-1], 5, "pocket"), Backbone(BackboneSpec("pocket"))
    system.frozen.vit.load_state_dict(backbone.model.state_dict())
    (view,) = random_views(system.form, 2, CPU)
    with torch.no_grad():
        found = system.tokens(view)
    for ours, wanted in zip(found, backbone.embed_and_patch_features(view, 2), strict=True):
        assert ours.shape == wanted.shape and (ours - wanted).abs().max() < 1e-4 * wanted.abs().max()
    assert len(system.classifier.blocks) == 4


def test_guided_is_what_the_recipe_guided_trains():
    recipe = load_train_recipe("guided", "cub").classifier
    assert (recipe.keep_tokens, recipe.shared_blocks) == (KEEP_TOKENS, SHARED_BLOCKS)
    guided = forms(False, KEEP_TOKENS, SHARED_BLOCKS)[-1]
    assert (guided.keep_tokens, guided.shared_blocks) == (recipe.keep_tokens, recipe.shared_blocks)


def test_the_round_trip_changes_nothing_and_settings_little():
    released = create_system(forms(True, 1.0, 0)[0], 5, "pocket")
    no_trip = copy.deepcopy(released)
    no_trip.form = replace(released.form, round_trip=False)
    views = random_views(released.form, 1, CPU)
    with_trip, without = (model_run(one, views)(lambda _: None) for one in (released, no_trip))
    assert all(torch.equal(a, b) for a, b in zip(with_trip, without, strict=True))
    _, last = model_run(apply_choice(released, Choice(channels_last=True), CPU), views)(lambda _: None)
    assert (last - with_trip[1]).abs().max() < 1e-3 * with_trip[1].abs().max()
    _, half = model_run(apply_choice(released, Choice(precision="bf16"), CPU), views)(lambda _: None)
    assert half.dtype == torch.bfloat16
    assert next(released.parameters()).dtype == torch.float32


def test_both_sides_are_offered_the_same_and_each_takes_its_fastest():
    offered = choices(CPU)
    assert {one.compiled for one in offered} == {"no"} and len(offered) == 4
    assert {one.compiled for one in choices(torch.device("cuda"))} == {"no", "compile", "cuda graphs"}
    a, b, c = offered[:3]
    trials = [
        Trial("x", a, 2.0),
        Trial("x", b, 1.0),
        Trial("x", c, None, "why"),
        Trial("y", a, 1.0),
        Trial("y", b, 3.0),
    ]
    assert best(trials) == {"x": b, "y": a}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_smal_patch16_224", "^No timm model 'vit_smal_patch16_224'; did you mean 'vit_small_patch16_224'?$"),
        ("resnet18", "^--backbone resnet18 is no plain ViT of 224 px in patches of 16"),
    ],
)
def test_backbones_that_do_not_fit(name, message):
    with torch.device("meta"), pytest.raises(BenchError, match=message.replace("?", r"\?")):
        create_vit(name)


def test_images_of_a_folder(tmp_path):
    with pytest.raises(BenchError, match="is no folder$"):
        load_images(tmp_path / "none", 2)
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(BenchError, match="holds no image"):
        load_images(tmp_path, 2)
    one = load_images(None, 1)[0]
    (tmp_path / "b.JPG").write_bytes(one)
    assert load_images(tmp_path, 3) == [one] * 3


# --- command ---------------------------------------------------------------------------------------------------------

BARE = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("dask", "distributed", "zarr", "icechunk"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Nothing())
from locloc.cli import main
main()
"""


def bare(*arguments: str) -> subprocess.CompletedProcess:
    """`locloc` in a process of its own, on a machine without dask, zarr and icechunk."""
    root = Path(sys.modules["locloc"].__file__).parents[1]
    environment = {"PYTHONPATH": str(root), "PATH": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", BARE, "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


def test_everything_on_a_bare_machine(tmp_path):
    out, drawn = tmp_path / "bench.json", tmp_path / "bench.svg"
    small = ("--backbone", "pocket", "--batch", "1", "--quick", "--threads", "1")
    found = bare("--compare-ppd", *small, "--json", str(out), "--plot", str(drawn))
    assert found.returncode == 0, found.stderr
    for title in ("Modules, one image", "What the paper printed", "Whole systems", "model stages", "end to end"):
        assert title in found.stdout
    assert found.stdout.count("noise: PPD as released takes") == 3
    report = json.loads(out.read_text())
    assert [line["system"] for line in report["model"]["lines"]][-1] == again(RELEASED)
    assert report["model"]["noise"] > 0 and report["asked"]["batch"] == 1
    assert {"date", "commit", "cpu", "threads", "versions"} <= report["machine"].keys()
    assert report["machine"]["threads"] == 1
    assert len(report["printed"]) == 16 and all(trial["why_not"] == "" for trial in report["trials"])
    alone = [(one["classes"], one["blocks"], one["tokens"]) for one in report["classifiers"]]
    assert alone == [(200, 6, 196), (200, 4, 147), (1000, 6, 196), (1000, 4, 147)]
    assert drawn.read_text().startswith("<?xml")


def test_engines_on_a_bare_machine(tmp_path):
    """Made scenes with their truth, and the same scenes as images of one's own, without any."""
    out, drawn = tmp_path / "masks.json", tmp_path / "masks.svg"
    small = ("--masks", "--count", "3", "--size", "48", "--vit-images-s", "50")
    found = bare(*small, "--json", str(out), "--plot", str(drawn))
    assert found.returncode == 0, found.stderr
    for title in ("in turn, simulation A", "in turn, simulation B", "Cost above the least", "Projected: a node of 16"):
        assert title in found.stdout
    assert drawn.read_text().startswith("<?xml")
    report = json.loads(out.read_text())["masks"]
    assert {"date", "commit", "cpu", "versions"} <= report["machine"].keys() and report["machine"]["threads"] == 1
    assert report["images"] == 3 and not report["skipped"] and report["stage_ms"]["decode"] > 0
    for engines in report["engines"].values():
        rows = {row["name"]: row for row in engines["rows"]}
        assert len(rows) == 2 * 2 + len(ENGINES) + len(SLOW)
        assert rows["opencv, 1 round"]["times_reference"] == rows["opencv, 5 rounds"]["iou_to_reference"] == 1
        assert all(row["iou_to_truth"] > 0.1 for row in rows.values())
        assert all(row["images_per_s"] == pytest.approx(1e3 / row["mean_ms"]) for row in rows.values())
        gaps = {row["name"]: row for row in engines["energies"]}
        assert gaps["fast, 8 neighbours, 1 round"]["shared_max"] == 0 < gaps["threshold"]["shared_mean"]
        assert gaps["fast, 4 neighbours, 1 round"]["own_max"] == 0 <= gaps["torch, 1 round"]["own_max"] < 0.01
    assert {row["images_per_s"] for row in report["node"] if row["engine"] == "threshold"} == {50}

    for index in range(3):
        (tmp_path / f"{index}.jpg").write_bytes(load_images(None, 3)[index])
    found = bare(*small, "--images", str(tmp_path), "--json", str(out))
    assert found.returncode == 0, found.stderr
    report = json.loads(out.read_text())["masks"]
    (engines,) = report["engines"].values()
    assert "in turn, attention of pocket" in found.stdout and report["stage_ms"]["ViT pocket"] > 0
    assert all(row["iou_to_truth"] is None and row["iou_to_reference"] > 0 for row in engines["rows"])


def test_errors_are_one_line_on_a_bare_machine_too():
    found = bare("--keep-tokens", "50")
    assert found.returncode == 1
    assert found.stderr == "error: --keep-tokens 50 is no share: 0.5 keeps half of the tokens, 1 all\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "gpu"], "No --device 'gpu'"),
        (["--precision", "fp8"], "No --precision 'fp8'; known: bf16, fp16, fp32"),
        (["--precision", "fp16"], "--precision fp16 needs a GPU"),
        (["--shared-blocks", "4"], "--shared-blocks 4 is no share: 0.33 shares a third of the blocks, 0 none"),
        (["--plot", "a.txt"], "a name that ends in .png, .svg or .pdf"),
        (["--masks", "--plot", "a.txt"], "a name that ends in .png, .svg or .pdf"),
        (["--masks", "--batch", "4"], "--batch says nothing to --masks; leave it out, or add --compare-ppd"),
        (["--masks", "--keep-tokens", "0.5"], "--keep-tokens says nothing to --masks"),
        (["--count", "3"], "--count is for --masks; add that, or leave --count out"),
        (["--compare-ppd", "--truth", "masks"], "--truth is for --masks"),
        (["--masks", "--compare-ppd", "--plot", "a.png"], "leave out --masks or --compare-ppd"),
        (["--masks", "--truth", "masks"], "are masks of which images? Give their folder with --images"),
        (["--masks", "--count", "0"], "of made scenes there is no end"),
        (["--masks", "--images", "none"], "--images none is no folder"),
        (["--masks", "--vit-images-s", "0"], "--vit-images-s 0 is no speed"),
        (["--masks", "--vit-images-s", "inf"], "--vit-images-s inf is no speed"),
        (["--masks", "--json", "/"], "/ is a folder; name a file in it"),
        (["--json", "none/a.json"], "to write a.json to; make it first"),
    ],
)
def test_bad_input_is_refused_before_anything_is_measured(arguments, message):
    found = CliRunner().invoke(app, ["bench", *arguments])
    assert isinstance(found.exception, BenchError) and message in str(found.exception)


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (tmp_path, os.W_OK))  # root may write anywhere
    found = CliRunner().invoke(app, ["bench", "--masks", "--json", str(tmp_path / "a.json")])
    assert isinstance(found.exception, BenchError) and "a.json cannot be written by this user" in str(found.exception)
    assert "\n" not in str(found.exception)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu():
    found = CliRunner().invoke(app, ["bench", "--device", "cuda"])
    assert str(found.exception) == "--device cuda, but torch sees no GPU here; --device cpu measures the CPU"
