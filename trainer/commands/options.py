"""Options that several commands of the trainer share."""

from typing import Annotated

import typer

from ...pipeline.commands.completions import BACKBONES, DEVICES, MODELS, PRECISIONS_OR_AUTO, one_of

Models = Annotated[
    str, typer.Option(autocompletion=one_of(MODELS), help="auto, locloc or ppd, for a run that holds both.")
]
Device = Annotated[str, typer.Option(autocompletion=one_of(DEVICES), help="auto, cpu, cuda, cuda:1, ...")]
Precision = Annotated[
    str,
    typer.Option(
        autocompletion=one_of(PRECISIONS_OR_AUTO),
        help="fp32, bf16, fp16 or tf32 (GPUs only), or auto: bf16 where the CPU has AMX or the GPU has it.",
    ),
]
ImportedBackbone = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        autocompletion=one_of(BACKBONES),
        help="timm's name of the ViT, for imported weights, whose files do not hold it.",
    ),
]
MovedWeights = Annotated[
    str | None, typer.Option(metavar="FILE", help="Where the backbone's weights are, if they were moved.")
]
