"""Reads a file of weights, safetensors or torch, by its content and not its name; or says what else the file is.

Nothing in a file is executed. What torch itself says about a foreign file is never passed on, because it advises to
load the file without that protection.
"""

import argparse
import re
import zipfile
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from ..errors import BackboneError, os_error_reason
from .spec import check_weights_file

_HEAD_BYTES = 1024

_FOREIGN = {
    b"version https://git-lfs": "a pointer of git-lfs, not the file itself; `git lfs pull` fetches that",
    b"\x1f\x8b": "a gzip archive; unpack it",
    b"BZh": "a bzip2 archive; unpack it",
    b"\xfd7zXZ": "an xz archive; unpack it",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"Rar!": "a RAR archive; unpack it",
    b"\x28\xb5\x2f\xfd": "a zstd archive; unpack it",
    b"\x89HDF": "an HDF5 file, as Keras writes",
    b"\x93NUMPY": "a NumPy array",
    b"GGUF": "a GGUF file, as llama.cpp reads",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"%PDF": "a PDF",
}
"""By how they begin: what other files are, and what to do with them."""

_TORCH, _SAFETENSORS = "torch", "safetensors"
_TORCH_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")  # begins a file of torch.save before 1.6, as a pickle


def read_weights_file(file: Path) -> Any:
    """The content of a file as it was saved: tensors by name for safetensors, anything for torch files.

    Raises BackboneError, in one line that says what the file is, for one that is missing or holds no weights.
    """
    check_weights_file(file)
    try:
        with file.open("rb") as opened:
            head = opened.read(_HEAD_BYTES)
        form = _form(file, head)
        if form == _SAFETENSORS:
            return _read_safetensors(file)
        return _read_torch(file)
    except OSError as error:
        raise BackboneError(f"{file} cannot be read: {os_error_reason(error)}") from None


def _form(file: Path, head: bytes) -> str:
    """What the file's first bytes say it is. Raises BackboneError for anything but the forms of weights."""
    if not head:
        raise _no_weights(file, "it is empty")
    if (what := next((what for magic, what in _FOREIGN.items() if head.startswith(magic)), None)) is not None:
        raise _no_weights(file, f"it is {what}")
    if head.startswith(b"PK\x03\x04"):
        return _zip_form(file)
    if head[257:262] == b"ustar":
        raise _no_weights(file, "it is a tar archive; unpack it")
    if head[8:9] == b"{" or (file.suffix == ".safetensors" and not head.startswith(b"\x80") and not _is_text(head)):
        return _SAFETENSORS
    if head.startswith(b"\x80"):
        if _TORCH_MAGIC not in head[:32]:
            raise _no_weights(file, "it is a pickle, but none of torch.save")
        return _TORCH
    raise _no_weights(file, _text(head) if _is_text(head) else "it is neither a safetensors nor a torch file")


def _zip_form(file: Path) -> str:
    """A torch file is a zip archive with a `data.pkl`."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        raise _no_weights(file, "it is cut off or damaged; fetch it again") from None
    if any(name.endswith("constants.pkl") for name in names):
        raise _no_weights(file, "it is a TorchScript program; save its state_dict()")
    if any(name.endswith(".npy") for name in names):
        raise _no_weights(file, "it is an archive of NumPy arrays")
    if not any(name.endswith("data.pkl") for name in names):
        raise _no_weights(file, f"it is a zip archive of {', '.join(names[:3]) or 'nothing'}; unpack it")
    return _TORCH


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8", errors="strict" if len(head) < _HEAD_BYTES else "ignore")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text.removeprefix("\ufeff"))


def _text(head: bytes) -> str:
    text = head.decode("utf-8", errors="ignore").removeprefix("\ufeff").strip()
    if re.match(r"(?is)<(!doctype|html|\?xml|!--)", text):
        return "it is a web page, as an expired or wrong link gives; fetch the file again"
    if text.startswith(("{", "[")):
        return "it is JSON"
    return f"it is text that begins {text[:40]!r}"


def _read_safetensors(file: Path) -> Any:
    try:
        return safetensors.torch.load_file(file)
    except safetensors.SafetensorError as error:
        cut_off = any(word in str(error) for word in ("incomplete", "length", "too large", "too small"))
        damage = "it is cut off, or no safetensors file" if cut_off else "its header is none of a safetensors file"
        raise _no_weights(file, f"{damage}; fetch it again") from None


def _read_torch(file: Path) -> Any:
    try:
        # DINO's full checkpoint holds its arguments, an argparse.Namespace: plain attributes, safe to unpickle.
        # Opened here, because torch takes a path that ends in .safetensors for that form.
        with torch.serialization.safe_globals([argparse.Namespace]), file.open("rb") as opened:
            return torch.load(opened, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch raises many classes for a foreign or damaged file
        raise _no_weights(file, _torch_trouble(str(error))) from None


def _torch_trouble(text: str) -> str:
    """What is wrong with a file that torch does not read, from torch's message."""
    if (named := re.search(r"GLOBAL ([\w.]+)", text)) is not None:
        return (
            f"it holds a Python object ({named[1]}), not only tensors, and no code of a file is executed; where it was "
            "made, save the model's state_dict() alone"
        )
    return "it is cut off or damaged, or a pickle of something else than tensors; fetch it again"


def _no_weights(file: Path, what: str) -> BackboneError:
    return BackboneError(f"{file} cannot be read as weights: {what}")
