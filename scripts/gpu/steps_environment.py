"""Steps `env` and `h`: the machine, its peaks, and tests of the package that also pass on a machine with a GPU."""

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from commands import REPOSITORY, patient
from measure import DEVICE, ON_GPU, capture_graph, median_seconds, stream_seconds
from results import emit, part

PACKAGES = (
    "torch", "torchvision", "triton", "timm", "numpy", "numba", "pillow", "opencv-python-headless", "zarr", "icechunk",
    "dask", "distributed", "lightning-fabric", "pyarrow", "pydantic", "nvidia-ml-py",
)  # fmt: skip
NVIDIA_SMI = "name,clocks.sm,clocks.max.sm,clocks.mem,temperature.gpu,power.draw,power.limit,compute_mode,pstate"
TESTS = (
    "gpu/test_gpu.py",
    "pipeline/masks/grabcut/test_torch_cut.py",
    "pipeline/backbones/test_vit.py",
    "pipeline/build/test_tasks.py",
    "trainer/models/test_localizer.py",
    "trainer/models/test_models.py",
)

OF_MANY_SCENES = "gpu/test_gpu.py::test_masks_of_bf16_attention"


def environment() -> None:
    """Versions, devices, imports, and the machine's peaks."""
    _of_a_gpu("what naming the device takes", _memory_of_naming)  # device_name() in a build's coordinator
    _machine()
    with part("torchvision nvjpeg"):
        import torchvision

        folder = Path(torchvision.__file__).parent.parent / "torchvision.libs"
        libraries = sorted(file.name for file in folder.glob("*nvjpeg*"))
        emit("torchvision nvjpeg", libs=libraries, version=torchvision.__version__)
    _of_a_gpu("nvidia-smi", _nvidia_smi)
    with part("import of every entry"):
        from locloc.pipeline.build import build, incremental  # noqa: F401
        from locloc.pipeline.inspect import verify  # noqa: F401
        from locloc.trainer.bench import report  # noqa: F401
        from locloc.trainer.evaluation import evaluate  # noqa: F401
        from locloc.trainer.inference import predict  # noqa: F401
        from locloc.trainer.training import run  # noqa: F401

        emit("imports", ok=True)
    _products()
    _transfers()


def _of_a_gpu(what: str, measure: Callable[[], dict]) -> None:
    """A part that there is nothing to measure of without a GPU."""
    if not ON_GPU:
        emit(what, skipped="no GPU")
        return
    with part(what):
        emit(what, **measure())


def _nvidia_smi() -> dict[str, str]:
    command = ["nvidia-smi", f"--query-gpu={NVIDIA_SMI}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    return {"said": done.stdout.strip() or done.stderr.strip()[:200]}


def _memory_of_naming() -> dict[str, float]:
    """MB of GPU memory that `torch.cuda.get_device_name` occupies."""
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    before = pynvml.nvmlDeviceGetMemoryInfo(handle).used
    torch.cuda.get_device_name(0)
    return {"mb": (pynvml.nvmlDeviceGetMemoryInfo(handle).used - before) / 2**20}


def _machine() -> None:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    memory = {
        line.split(":")[0]: int(line.split()[1]) // 1024 for line in Path("/proc/meminfo").read_text().splitlines()
    }
    shared = os.statvfs("/dev/shm")
    emit(
        "machine", versions=versions, python=sys.version.split()[0], cores=len(os.sched_getaffinity(0)),
        mem_total_mb=memory["MemTotal"], mem_free_mb=memory["MemAvailable"],
        gpu=torch.cuda.get_device_name(0) if ON_GPU else None, cuda=torch.version.cuda,
        shm_mb=shared.f_bavail * shared.f_frsize >> 20,
    )  # fmt: skip


def _products() -> None:
    """Matrix products by precision. A CPU has no TF32."""
    side = 8192 if ON_GPU else 128
    kinds = [("fp32", torch.float32, False), ("bf16", torch.bfloat16, False)]
    for name, dtype, tf32 in [*kinds, ("tf32", torch.float32, True)] if ON_GPU else kinds:
        with part(f"product {name}"):
            torch.backends.cuda.matmul.allow_tf32 = tf32
            a, b = (torch.randn(side, side, device=DEVICE, dtype=dtype) for _ in range(2))

            def multiply(a=a, b=b) -> None:
                a @ b

            emit(f"product {name}", tflops=2 * side**3 / stream_seconds(multiply, 8) / 1e12)


def _transfers() -> None:
    """Copies on the device and to it, and launches of small kernels."""
    with part("copy"):
        source = torch.ones((1 << 30) // 4 if ON_GPU else 1 << 20, device=DEVICE)
        target = torch.empty_like(source)
        emit("copy", tb_s=2 * source.nbytes / stream_seconds(lambda: target.copy_(source), 10) / 1e12)
    with part("launches"):
        small = torch.zeros(16, device=DEVICE)

        def launch_1000() -> None:
            for _ in range(1000):
                small.add_(1)

        times = {"eager_us": stream_seconds(launch_1000, 3) * 1e3}
        if ON_GPU:
            times["graph_us"] = stream_seconds(capture_graph(launch_1000), 3) * 1e3
        emit("launches", **times)
    for pinned in (False, True):
        _of_a_gpu(f"host to device, {'pinned' if pinned else 'pageable'}", lambda pinned=pinned: _copy_rate(pinned))


def _copy_rate(pinned: bool) -> dict[str, float]:
    host = torch.empty(256 << 20, dtype=torch.uint8, pin_memory=pinned)

    def copy() -> None:
        host.to("cuda")

    return {"gb_s": host.nbytes / median_seconds(copy, 0.3) / 1e9}


def tests() -> None:
    """Tests that run on this machine's device; without CUDA the code of those in the first file alone."""
    names, left_out = TESTS if ON_GPU else TESTS[:1], []
    if not ON_GPU:
        left_out = [f"--deselect=tests/{OF_MANY_SCENES}"]
        emit(OF_MANY_SCENES, skipped="its bound is for the mean of 12 scenes; there are 2 on a CPU, which had .978")
    files = [str(REPOSITORY / "tests" / name) for name in names]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default", *left_out]
    done = subprocess.run(
        [*command, *files],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=patient(50),
        env=os.environ | {"LOCLOC_GPU_TESTS": DEVICE},
    )
    print(done.stdout[-4000:], done.stderr[-1000:])
    lines = done.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))][:8]
    if done.returncode and not failed:
        failed = [f"pytest ended with {done.returncode}: {done.stderr.strip()[-200:]}"]
    emit("pytest", files=names, end=(lines or [""])[-1], failed=failed)
