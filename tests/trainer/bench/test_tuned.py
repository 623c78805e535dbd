"""Each system takes the fastest of the choices that a device offers."""

import torch

from locloc.trainer.bench.tuned import Trial, best, choices

CPU = torch.device("cpu")


def test_each_system_takes_its_fastest_choice():
    offered = choices(CPU)
    assert {choice.compiled for choice in offered} == {"no"} and len(offered) == 4
    assert {choice.compiled for choice in choices(torch.device("cuda"))} == {"no", "compile", "cuda graphs"}
    a, b, c = offered[:3]
    trials = [
        Trial("x", a, 2.0),
        Trial("x", b, 1.0),
        Trial("x", c, None, "why"),
        Trial("y", a, 1.0),
        Trial("y", b, 3.0),
    ]
    assert best(trials) == {"x": b, "y": a}
