"""Runs for programs without locloc: one ONNX graph, or a folder for the Hugging Face hub."""

FORMATS = ("onnx", "hub")
"""Of `locloc export`. Each has a module here with `export_FORMAT(run, out, ...) -> Exported`."""

CLASS_SQUARES = ("map", "own")
"""What the classifier of a graph sees, where it has the size of the map: the map's square, or one of its own."""
