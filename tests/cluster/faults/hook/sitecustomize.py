"""Faults inside processes: with this folder on PYTHONPATH, Python runs this file at the start of every process.

The environment's `LOCLOC_FAULTS`, JSON, says which:

    {"no_flock": true}                    a file system without flock
    {"clock_s": 86400}                    a wall clock that is ahead, or with "clock_after_s": 2 jumps ahead after 2 s
    {"writes": FILE}                      a line with the process id in FILE for all that changes a repository
    {"decode_s": 0.1}                     images that take so long to decode
    {"hold": FILE}                        images are not decoded while FILE is there
    {"set": {"MODULE": {"NAME": VALUE}}}  other constants in a module

An image whose file ends in POISON kills the process that decodes it, one that ends in HANG is never decoded. An empty
variable changes nothing else; without it nothing at all happens.
"""

import errno
import fcntl
import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
import time
from contextlib import suppress
from typing import ClassVar

IMAGES = "locloc.pipeline.io.images"
POISON, HANG = b"locloc test: poison", b"locloc test: hang"
SLOW = {"decode_s": 0.0, "hold": ""}


def dangerous(decode_reduced):
    def decode(data, *args, **kwargs):
        if data.endswith(POISON):
            os.kill(os.getpid(), signal.SIGSEGV)
        while data.endswith(HANG):
            time.sleep(1)
        time.sleep(SLOW["decode_s"])
        while SLOW["hold"] and os.path.exists(SLOW["hold"]):
            time.sleep(0.05)
        return decode_reduced(data, *args, **kwargs)

    return decode


def no_flock(file, operation):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def put_clock_ahead(ahead_s, after_s=0.0):
    """All that Python says of the time of day; Rust and the kernel keep theirs."""
    import datetime

    with suppress(ImportError):
        import pandas  # noqa: F401  pyarrow imports it where it is installed, and its C code needs the real class

    jumps_at = time.monotonic() + after_s

    def by_s():
        return ahead_s if time.monotonic() >= jumps_at else 0.0

    class Ahead(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + datetime.timedelta(seconds=by_s())

    now, format_time, real = time.time, time.strftime, datetime.datetime
    time.time = lambda: now() + by_s()
    time.strftime = lambda form, at=None: format_time(form, time.localtime(time.time()) if at is None else at)
    datetime.datetime = Ahead
    for name, module in list(sys.modules.items()):
        if name.startswith("locloc.") and getattr(module, "datetime", None) is real:
            module.datetime = Ahead


def note_writes(file):
    import icechunk

    def noted(method):
        def write(*args, **kwargs):
            with open(file, "a") as out:
                out.write(f"{os.getpid()} {method.__name__}\n")
            return method(*args, **kwargs)

        return write

    repository = "create_branch", "reset_branch", "delete_branch", "create_tag", "expire_snapshots", "garbage_collect"
    for kind, names in ((icechunk.Session, ("commit",)), (icechunk.Repository, repository)):
        for name in names:
            setattr(kind, name, noted(getattr(kind, name)))


def set_constants(module, constants):
    for name, value in constants.items():
        getattr(module, name)  # there must be one
        setattr(module, name, value)


def apply(faults):
    """To this process from now on, to modules that are loaded already as to others."""
    SLOW.update(decode_s=faults.get("decode_s", 0.0), hold=faults.get("hold", ""))
    if faults.get("no_flock"):
        fcntl.flock = no_flock
    if faults.get("clock_s"):
        put_clock_ahead(faults["clock_s"], faults.get("clock_after_s", 0.0))
    if faults.get("writes"):
        note_writes(faults["writes"])
    for name, constants in faults.get("set", {}).items():
        if name in sys.modules:
            set_constants(sys.modules[name], constants)
        else:
            Changed.constants[name] = constants


class Changed(importlib.abc.MetaPathFinder):
    """Finds the modules that are to be changed, and changes them when they are loaded."""

    constants: ClassVar = {IMAGES: {}}

    @classmethod
    def find_spec(cls, name, path, target=None):
        if name not in cls.constants:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            set_constants(module, cls.constants[name])
            if name == IMAGES:
                module.decode_reduced = dangerous(module.decode_reduced)

        spec.loader.exec_module = exec_module
        return spec


if "LOCLOC_FAULTS" in os.environ:
    sys.meta_path.insert(0, Changed)
    apply(json.loads(os.environ["LOCLOC_FAULTS"] or "{}"))
