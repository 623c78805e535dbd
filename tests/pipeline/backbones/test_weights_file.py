"""A file that is no weights is called what it is, in one line that never advises to load it unsafely."""

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from locloc.pipeline.backbones.pocket import create_pocket
from locloc.pipeline.backbones.state_dict import load_weights_file, read_state_dict
from locloc.pipeline.backbones.weights_file import read_weights_file
from locloc.pipeline.errors import BackboneError

STATE = {"a": torch.arange(400.0), "b": torch.ones(3)}


def saved(content: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def legacy(content: object) -> bytes:
    return saved(content, _use_new_zipfile_serialization=False)


def safe(header: bytes | None = None, size: int | None = None) -> bytes:
    data = safetensors.torch.save(STATE)
    if header is not None:
        data = struct.pack("<Q", len(header)) + header + data[-1612:]
    return data[:size]


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))
    return buffer.getvalue()


def numpy_zip() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


class Anything:
    """A class that only this process knows."""


FOREIGN = {
    "empty": (b"", "it is empty"),
    "HTML": (b"<!DOCTYPE html>\n<html><title>404</title></html>\n", "it is a web page"),
    "HTML after blanks": (b"\xef\xbb\xbf\n  <HTML>\n" + b"<p>x</p>" * 400, "it is a web page"),
    "XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "it is a web page"),
    "JSON": (json.dumps({"error": "gated"}).encode(), "it is JSON"),
    "text": (b"Not Found", "it is text that begins 'Not Found'"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "pointer of git-lfs"),
    "gzip": (gzip.compress(b"weights"), "gzip archive; unpack it"),
    "zip": (zipped(**{"weights.pth": b"1", "readme": b"2"}), "zip archive of weights.pth, readme; unpack it"),
    "npz": (numpy_zip(), "archive of NumPy arrays"),
    "TorchScript": (
        zipped(**{"a/data.pkl": b"1", "a/constants.pkl": b"2", "a/code/x.py": b"3"}),
        "TorchScript program; save its state_dict",
    ),
    "tar": (tarred(), "tar archive; unpack it"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "HDF5"),
    "image": (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "it is an image"),
    "noise": (bytes(range(1, 128)) * 9 + b"\xff\xfe", "neither a safetensors nor a torch file"),
    "zeros": (b"\0" * 4096, "neither a safetensors nor a torch file"),
    "pickle of numbers": (pickle.dumps({"a": [1, 2]}), "a pickle, but none of torch.save"),
    "pickle of an array": (pickle.dumps({"a": np.zeros(3)}), "a pickle, but none of torch.save"),
    "pickle of a class": (pickle.dumps(Anything()), "a pickle, but none of torch.save"),
    "a whole model": (saved(torch.nn.Linear(2, 2)), "Python object (torch.nn.modules.linear.Linear), not only tensors"),
    "a whole old model": (legacy(torch.nn.Linear(2, 2)), "Python object (torch.nn.modules.linear.Linear)"),
    "a path": (saved({"a": STATE["a"], "at": Path("x")}), "Python object (pathlib.PosixPath)"),
    "torch cut off": (saved(STATE)[:-200], "cut off or damaged"),
    "torch cut off early": (saved(STATE)[:60], "cut off or damaged"),
    "old torch cut off": (legacy(STATE)[:-200], "cut off or damaged"),
    "old torch cut off early": (legacy(STATE)[:30], "cut off or damaged"),
    "safetensors cut off": (safe(size=900), "cut off, or no safetensors file"),
    "safetensors cut off early": (safe(size=40), "cut off, or no safetensors file"),
    "safetensors header": (safe(b'{"a": 3}'), "header is none of a safetensors file"),
    "safetensors header text": (
        safe(b'{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}'),
        "header is none",
    ),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ""])
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_that_is_no_weights_is_called_what_it_is(kind, suffix, tmp_path):
    content, what = FOREIGN[kind]
    file = tmp_path / f"weights{suffix}"
    file.write_bytes(content)
    with pytest.raises(BackboneError) as caught:
        read_weights_file(file)
    line = str(caught.value)
    if not (kind in ("noise", "zeros") and suffix == ".safetensors"):
        assert f"{file} cannot be read as weights: " in line and what in line
    assert "\n" not in line and len(line) < 400
    assert not [word for word in ("weights_only", "trust", "safe_globals", "unsafe", "arbitrary") if word in line]


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "weights.bin", "weights"])
@pytest.mark.parametrize("form", [saved, legacy, safetensors.torch.save])
def test_the_content_decides_and_not_the_suffix(form, name, tmp_path):
    (tmp_path / name).write_bytes(form(STATE))
    state = read_state_dict(str(tmp_path / name))
    assert state.keys() == STATE.keys() and all(torch.equal(state[key], STATE[key]) for key in STATE)


def test_a_folder_and_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    with pytest.raises(BackboneError, match="is a folder; name a file of weights"):
        read_weights_file(tmp_path)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.pth").write_bytes(b"x")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BackboneError, match="a.pth cannot be read: permission denied$"):
        read_weights_file(tmp_path / "a.pth")


def test_checkpoints_without_a_model(tmp_path):
    model = create_pocket()
    optimizer = torch.optim.AdamW(model.parameters())
    for content, message in (
        (optimizer.state_dict(), "holds the state of an optimizer, not a model's"),
        ({"optimizer": optimizer.state_dict(), "epoch": 3}, "it holds optimizer, epoch"),
        ({}, "it holds nothing"),
        ({0: torch.zeros(2)}, "it holds 0"),
        ({"state_dict": [1]}, "it holds state_dict"),
    ):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(BackboneError, match=message) as caught:
            load_weights_file(model, str(tmp_path / "other.pth"))
        assert "\n" not in str(caught.value)


def test_the_name_of_a_timm_model_is_not_needed_to_read_a_file(tmp_path):
    state = timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict()
    torch.save({"model": {f"_orig_mod.module.{name}": value for name, value in state.items()}}, tmp_path / "a.pth")
    assert read_state_dict(str(tmp_path / "a.pth")).keys() == state.keys()
