"""The script beside an ONNX graph, which uses it without locloc."""

from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from .graph import RunGraph


def use_onnx_script(graph: RunGraph) -> str:
    """The script for this graph: its way of fitting images, its inputs and its outputs."""
    return render("use_onnx.py.j2", inputs=graph.inputs, outputs=graph.outputs)


def render(template: str, /, **values: object) -> str:
    """A template of this package, filled in."""
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    text = files(__package__).joinpath("templates", template).read_text(encoding="utf-8")
    return environment.from_string(text).render(**values)
