"""What of a recipe only GPU workers can do, and what is said where there are none."""

from ..backbones.precision import why_no_tf32
from ..errors import BuildError
from ..io.machine import may_have_gpu
from ..recipe import Recipe
from .block import TaskContext
from .cluster import Cluster, ClusterSpec


def check_this_machine(recipe: Recipe, cluster: ClusterSpec) -> None:
    """Raises BuildError for a build whose workers are to be this machine's, and cannot do what the recipe asks."""
    if not cluster.is_local:
        return
    if recipe.backbone.precision == "tf32" and (why := why_no_tf32(with_gpu=cluster.gpus != 0)) is not None:
        raise BuildError(why)
    if recipe.images.decoder == "nvjpeg" and (cluster.gpus == 0 or not may_have_gpu()):
        raise BuildError('images.decoder = "nvjpeg" needs a GPU; without one use "pillow"')


def check_workers(context: TaskContext, cluster: Cluster) -> None:
    """Raises BuildError where the tasks of a build need GPU workers, and it has none."""
    needs = []
    if context.backbone is not None and context.recipe.backbone.precision == "tf32":
        needs.append("precision tf32")
    if context.decodes_on_gpu:
        needs.append('images.decoder = "nvjpeg"')
    if needs and "GPU" not in cluster.attend_on:
        raise BuildError(f"{needs[0]} needs GPU workers; those at {cluster.address} have no GPUs")
