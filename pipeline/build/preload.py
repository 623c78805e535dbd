"""Imports, where workers are forked from, the modules that NAMES lists, separated by commas.

The standard library's own preloading lets any error but ImportError end that process with a traceback. Here nothing
does: whoever needs a module that cannot be imported meets the same error, and says it in one line.
"""

import importlib
import os
from contextlib import suppress

from ..backbones.quick_imports import import_timm

NAMES = "LOCLOC_PRELOAD"
"""The environment variable. It is removed here, so that no process started from there imports them again."""

if _names := [*filter(None, os.environ.pop(NAMES, "").split(","))]:
    with suppress(Exception):
        import_timm()
for _name in _names:
    with suppress(Exception):
        importlib.import_module(_name)
