"""What is said of a recipe that asks for a GPU on machines and clusters without one."""

from types import SimpleNamespace

import pytest

from locloc.pipeline.backbones.spec import BackboneSpec
from locloc.pipeline.build import needs_gpu
from locloc.pipeline.build.block import TaskContext
from locloc.pipeline.build.build import BuildRequest, build_version, plan_build
from locloc.pipeline.build.cluster import ClusterSpec
from locloc.pipeline.build.needs_gpu import check_this_machine, check_workers
from locloc.pipeline.build.spec import RunSettings
from locloc.pipeline.errors import BuildError
from locloc.pipeline.recipe import Recipe

TF32 = Recipe().with_precision("tf32")
NVJPEG = Recipe.model_validate({"images": {"decoder": "nvjpeg"}})


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (TF32, "^precision tf32 needs a GPU; on a CPU use fp32 or bf16$"),
        (NVJPEG, '^images.decoder = "nvjpeg" needs a GPU; without one use "pillow"$'),
    ],
)
def test_a_build_is_refused_before_it_begins(recipe, message, tmp_path):
    for run in (build_version, plan_build):
        with pytest.raises(BuildError, match=message):
            run(BuildRequest(None, tmp_path / "s", recipe, run=RunSettings(ClusterSpec(1, gpus=0))))
    assert not (tmp_path / "s").exists()
    check_this_machine(recipe, ClusterSpec(scheduler="tcp://elsewhere"))
    check_this_machine(Recipe(), ClusterSpec(gpus=0))


def test_this_machine_may_have_what_is_asked_for(monkeypatch):
    monkeypatch.setattr(needs_gpu, "may_have_gpu", lambda: True)
    monkeypatch.setattr(needs_gpu, "why_no_tf32", lambda with_gpu: None if with_gpu else "no")
    for recipe in (TF32, NVJPEG):
        check_this_machine(recipe, ClusterSpec())


@pytest.mark.parametrize(
    ("recipe", "attends", "message"),
    [
        (TF32, True, "precision tf32 needs GPU workers; those at tcp://s have no GPUs"),
        (TF32, False, None),
        (NVJPEG, True, 'images.decoder = "nvjpeg" needs GPU workers; those at tcp://s have no GPUs'),
        (NVJPEG, False, 'images.decoder = "nvjpeg" needs GPU workers; those at tcp://s have no GPUs'),
        (Recipe.model_validate({"images": {"decoder": "nvjpeg"}, "refine": {"engine": "threshold"}}), False, None),
        (Recipe(), True, None),
    ],
)
def test_workers_elsewhere(recipe, attends, message):
    backbone = BackboneSpec("pocket", precision=recipe.backbone.precision) if attends else None
    context = TaskContext("/images", recipe, backbone)
    without, with_gpu = (SimpleNamespace(address="tcp://s", attend_on={kind: 1, "run-1": 1}) for kind in ("CPU", "GPU"))
    check_workers(context, with_gpu)
    if message is None:
        check_workers(context, without)
        return
    with pytest.raises(BuildError) as error:
        check_workers(context, without)
    assert str(error.value) == message
