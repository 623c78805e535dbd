"""What a build has to know of its backbone before workers start: the digest of its weights and its shapes.

The backbone is loaded for that, which imports torch and timm. Workers of this machine are forked from a process that
has imported both (cluster/local.py); where this process has not, that one is started first and a fork of it does the
work, so that a build imports torch once.
"""

import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from ..backbones.spec import BackboneSpec
from ..errors import BuildError
from ..masks.map_source import SecondRound
from ..recipe import Recipe
from .block import kernels_of_recipe
from .cluster.spec import ClusterSpec

if TYPE_CHECKING:
    from ..backbones.vit import Backbone


@dataclass(frozen=True)
class BackboneFacts:
    """Of a loaded backbone; see `Backbone`."""

    sha256: str
    mean: list[float]
    std: list[float]
    patch_px: int
    prefix_tokens: int
    heads: int
    grid: tuple[int, int]


def describe(
    spec: BackboneSpec, maps: SecondRound | None = None, forked_with: tuple[str, ...] | None = None
) -> BackboneFacts:
    """Loads the backbone.

    maps         checked for whether they fit it
    forked_with  modules that local workers will need (`local_kernels`); None: load it in this process

    Raises BackboneError for one that cannot be loaded, BuildError for maps that do not fit.
    """
    if forked_with is None or maps is not None or "torch" in sys.modules:
        from ..backbones.vit import Backbone

        backbone = Backbone(spec)
        if maps is not None:
            maps.source.check_fits(backbone)
        return _facts(backbone)
    return _describe_in_a_fork(spec, forked_with)


def local_kernels(recipe: Recipe, cluster: ClusterSpec) -> tuple[str, ...] | None:
    """The modules that local workers of a build will need; None where workers are elsewhere."""
    return kernels_of_recipe(recipe) if cluster.is_local else None


def _facts(backbone: "Backbone") -> BackboneFacts:
    return BackboneFacts(
        backbone.sha256, backbone.mean, backbone.std, backbone.patch_px, backbone.prefix, backbone.heads, backbone.grid
    )


def _describe_in_a_fork(spec: BackboneSpec, kernels: tuple[str, ...]) -> BackboneFacts:
    import multiprocessing

    from .cluster.local import start_forkserver

    start_forkserver(kernels)
    forkserver = multiprocessing.get_context("forkserver")
    receiving, sending = forkserver.Pipe(duplex=False)
    with receiving:
        child = forkserver.Process(target=_send_facts, args=(spec, sending), daemon=True)
        child.start()
        sending.close()
        try:
            answer = receiving.recv()
        except EOFError:
            child.join()
            raise BuildError(
                f"the process that loads {spec.name} ended with {child.exitcode} (-9: killed, out of memory?)"
            ) from None
    child.join()
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _send_facts(spec: BackboneSpec, sending: Connection) -> None:
    """Sends what `_facts` returns, or the error of loading."""
    from ..backbones.vit import Backbone

    try:
        sending.send(_facts(Backbone(spec)))
    except Exception as error:
        sending.send(error)
