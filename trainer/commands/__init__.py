"""The commands of the trainer: parse, call one function, print. One file a command."""

import typer

from . import bench, evaluate, export, predict, train, weights


def add_to(app: typer.Typer) -> None:
    for command in (train, evaluate, predict, export, bench, weights):
        command.add_to(app)
