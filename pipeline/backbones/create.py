"""A ViT by its name, with its weights: bundled, by timm's names from the Hugging Face hub, from a file, or random."""

import difflib
import logging
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import huggingface_hub
import timm
from timm.models import load_model_config_from_hf
from timm.models.eva import Eva, EvaBlock
from timm.models.vision_transformer import Block, VisionTransformer

from ..errors import BackboneError
from .pocket import create_pocket, load_pocket
from .spec import BackboneSpec
from .state_dict import load_random, load_weights_file

BUNDLED = {"pocket": (create_pocket, load_pocket)}
"""Backbones that ship with the package: name to (architecture, architecture with its weights)."""

EXAMPLES = (
    "vit_small_patch16_224.dino",
    "vit_small_patch14_dinov2.lvd142m",
    "vit_small_patch16_dinov3_qkvb.lvd1689m",
    "vit_base_patch16_224.dino",
    "pocket",
)
"""Suggested where a name is unknown; the README has them too."""

LIST_ALL = """`python -c "import timm; print(*timm.list_models('vit*', pretrained=True))"` lists timm's"""

Vit = Any
"""A timm VisionTransformer or Eva: nn.Module's stubs give their submodules no useful types."""

_HUB = "hf-hub:"
_MODULES = ("vision_transformer", "eva", "deit")  # of timm, which hold the families that `Backbone` reads

ResultT = TypeVar("ResultT")


def create_vit(spec: BackboneSpec) -> Vit:
    """The timm model at its native size, with its weights. Raises BackboneError for an unsupported family."""
    if spec.name in BUNDLED:
        create, load = BUNDLED[spec.name]
        return load() if spec.weights is None else _with_weights(create(), spec.weights)
    _check_name(spec.name)
    try:
        if spec.weights is None:
            model = _from_hub(spec.name)
        else:
            model = _with_weights(_check_family(timm.create_model(spec.name, num_classes=0), spec.name), spec.weights)
    except RuntimeError as error:  # timm: weights of the hub that do not fit the architecture
        raise BackboneError(f"{spec.name}: {' '.join(str(error).split())[:200]}") from None
    return model


def _check_name(name: str) -> None:
    """Raises BackboneError for a name that neither timm nor the hub has, with names that they have."""
    if name.startswith(_HUB):
        _check_hub_config(name)
        return
    architecture, _, tag = name.partition(".")
    exists = timm.is_model(architecture)
    tagged = timm.list_models(f"{architecture}.*", include_tags=True) if exists else []
    if name in tagged or (exists and not tag):
        return
    if Path(name).is_file() or Path(name).suffix in (".pth", ".pt", ".bin", ".safetensors"):
        raise BackboneError(f"{name!r} is a file: --backbone is the name of its ViT, and the file goes to --weights")
    if exists:
        raise BackboneError(f"timm has no weights {tag!r} of {architecture}{suggestions(name, tagged)}")
    is_hub_name = re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None
    hint = f"; a model of the Hugging Face hub is written {_HUB}{name}" if is_hub_name else suggestions(name)
    raise BackboneError(f"No timm model {name!r}{hint}")


def suggestions(name: str, known: list[str] | None = None) -> str:
    """The end of an error line: five names like `name`, or else the README's, and how to list all."""
    if known is None:
        tagged = [model for module in _MODULES for model in timm.list_models(module=module, pretrained=True)]
        known = [*BUNDLED, *tagged, *(model for module in _MODULES for model in timm.list_models(module=module))]
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.7)
    others = [example for example in EXAMPLES if example not in close][: len(EXAMPLES) - len(close)]
    if not close:
        return f"; there are {', '.join(others)} and more: {LIST_ALL}"
    return f"; did you mean {close[0]!r}? There are also {', '.join([*close[1:], *others])}; {LIST_ALL}"


def _check_hub_config(name: str) -> None:
    """Raises BackboneError for a model of the hub whose config names no architecture of timm, or not its own."""
    try:
        _, architecture, _ = online(
            f"The config of {name} is", lambda: load_model_config_from_hf(name.removeprefix(_HUB)),
            "name its architecture by timm's name, and give a file with --weights FILE",
        )  # fmt: skip
    except KeyError as error:
        raise BackboneError(f"{name} is no model of timm: its config.json has no {error}") from None
    own = name.rpartition("/")[2].partition("@")[0].partition(".")[0]
    if not timm.is_model(architecture):
        raise BackboneError(f"{name}: its config.json names the architecture {architecture!r}, which timm has not")
    if timm.is_model(own) and own != architecture:
        raise BackboneError(f"{name}: its config.json names another architecture, {architecture}")


def _check_family(model: Vit, name: str) -> Vit:
    if not isinstance(model, (VisionTransformer, Eva)) or not isinstance(model.blocks[-1], (Block, EvaBlock)):
        raise BackboneError(f"{name} is no plain ViT: locloc reads timm's VisionTransformer and Eva (DINOv3)")
    if model.cls_token is None:
        raise BackboneError(f"{name} has no CLS token, so no CLS attention; {EXAMPLES[0]} has")
    return model


def _with_weights(model: Vit, weights: str) -> Vit:
    """The model with random weights, or with those of a file."""
    if weights == "random":
        load_random(model)
    else:
        load_weights_file(model, weights)
    return model


def _from_hub(name: str) -> Vit:
    if not name.startswith(_HUB) and not timm.is_model_pretrained(name):
        raise BackboneError(f"timm has no published weights for {name}; give --weights FILE, or --weights random")
    model = online(
        f"The weights of {name} are", lambda: timm.create_model(name, pretrained=True, num_classes=0),
        "give a file with --weights FILE, or try the pipeline with --weights random",
    )  # fmt: skip
    return _check_family(model, name)


def online(what: str, get: Callable[[], ResultT], instead: str) -> ResultT:
    """What `get` returns, from the cache or the hub. Raises BackboneError; timm's KeyError and RuntimeError pass."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # else every retry prints a line
    if not _hub_resolves():
        huggingface_hub.constants.HF_HUB_OFFLINE = True  # reads the cache at once, not after a minute of retries
    try:
        return get()
    except (KeyError, RuntimeError):  # of what was found
        raise
    except Exception as error:  # the hub's client raises many classes: no network, gated, not found, disk full
        raise BackboneError(
            f"{what} not in the cache and could not be downloaded ({_one_line(error)}); {instead}"
        ) from None


def _hub_resolves() -> bool:
    """False if the hub cannot be reached: no proxy is set and its name does not resolve."""
    if urllib.request.getproxies():
        return True
    try:
        return bool(socket.getaddrinfo(urllib.parse.urlparse(huggingface_hub.constants.ENDPOINT).hostname, 443))
    except OSError:
        return False


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].split(". ")[0][:160] if lines else type(error).__name__
