"""Parameters and arithmetic are those of the method, and the paper's counter gives the paper's figures."""

import pytest
import torch

from locloc.trainer.bench import KEEP_TOKENS, SHARED_BLOCKS
from locloc.trainer.bench.counts import PaperCounter, count_modules, count_pipeline, count_pipelines
from locloc.trainer.bench.systems import AT_224, GUIDED, PAPER, RELEASED, SHARED, TAPERED, forms


@pytest.fixture(scope="module")
def pipelines():
    return {count.form: count for count in count_pipelines(True, 200, KEEP_TOKENS, SHARED_BLOCKS)}


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


@pytest.mark.slow
def test_guided_tokens_alone_and_shared_blocks_alone():
    half = {count.module: count.macs for count in count_modules(200, 0.5, 0)}
    whole, guided = half["LFDM, 200 classes"], half["LFDM, 200 classes, 12 blocks, 98 of 196 tokens"]
    assert whole - guided == 12 * 98 * 12 * 384 * 384 + 12 * 2 * 384 * (197**2 - 99**2)
    shared = {count.module: count.macs for count in count_modules(200, 1.0, 0.33)}
    four = 4 * (12 * 384 * 384 * 197 + 2 * 384 * 197**2)
    assert whole - shared["LFDM, 200 classes, 8 blocks, 196 of 196 tokens"] == four
    assert [count.module for count in count_modules(200, 1.0, 0) if "LFDM" in count.module] == [
        "LFDM, 200 classes", "LFDM, 1000 classes",
    ]  # fmt: skip
