"""Put on the PYTHONPATH of worker processes: makes them decode images that no real file can be trusted to be.

A file that begins with one of these words kills, hangs or misleads the process that decodes it; one that ends with
PRINT is an image like any other, but for what its decoder prints. Python imports this module at its start.
"""

import os
import sys

TARGET = "locloc.pipeline.io.images"


def crash() -> None:
    import ctypes

    ctypes.string_at(0)


def hang() -> None:
    """In C, with the interpreter's lock held: no thread of Python's could end it."""
    import ctypes

    os.write(2, f"hangs: {os.getpid()}\n".encode())
    ctypes.PyDLL(None).pause()


def unreachable() -> None:
    from locloc.pipeline.errors import UnreachableError

    raise UnreachableError("the server does not answer")


def wrapped(decode):
    def decode_reduced(data, *args):
        for word, act in ((b"CRASH", crash), (b"HANG", hang), (b"UNREACHABLE", unreachable)):
            if data.startswith(word):
                act()
        if data.endswith(b"PRINT"):
            print("decoding ...", flush=True)
            os.write(1, b"decoding ...\n" * 1000)
        return decode(data, *args)

    return decode_reduced


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != TARGET:
            return None
        sys.meta_path.remove(self)
        spec = None
        for finder in sys.meta_path:
            if (spec := finder.find_spec(name, path, target)) is not None:
                break
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            module.decode_reduced = wrapped(module.decode_reduced)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
