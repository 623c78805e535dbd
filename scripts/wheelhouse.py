"""Fills a folder with the wheels of locloc and of all that it needs, for machines without internet.

    python scripts/wheelhouse.py dist/wheelhouse-cpu            for this Python, on machines like this one
    python scripts/wheelhouse.py dist/wheelhouse-cpu --python-version 3.13 --platform manylinux_2_28_aarch64
    python scripts/wheelhouse.py dist/wheelhouse-mac --python-version 3.12 --platform macosx_14_0_arm64

Indexes and constraints are those of pip's configuration. On Linux the common index has torch with CUDA; for CPUs alone
give the index of PyTorch's CPU wheels, --torch-index. For another Python or platform, packages are chosen by uv, which
is fetched for that, since pip evaluates the conditions of requirements for its own machine.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
OLDEST_GLIBC = 5  # 2.5, of manylinux1
ALIASES = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}


def platform_tags(platform: str) -> list[str]:
    """The tags of all wheels that run on a platform. pip itself adds older macOS, and no older glibc."""
    if not platform.startswith("manylinux_2_"):
        return [platform]
    glibc, _, machine = platform.removeprefix("manylinux_2_").partition("_")
    tags = []
    for minor in range(int(glibc), OLDEST_GLIBC - 1, -1):
        tags += [f"{name}_{machine}" for name in (f"manylinux_2_{minor}", ALIASES.get(minor)) if name]
    return tags


def uv_platform(platform: str) -> str:
    """The name that uv has for a platform. Raises SystemExit for one that locloc does not run on."""
    if platform.startswith("macosx_") and platform.endswith("_arm64"):
        return "aarch64-apple-darwin"
    if platform.startswith("manylinux_2_"):
        glibc, _, machine = platform.removeprefix("manylinux_2_").partition("_")
        return f"{machine}-manylinux_2_{glibc}"
    sys.exit(f"--platform {platform}: write manylinux_2_28_x86_64, manylinux_2_28_aarch64 or macosx_14_0_arm64")


def python(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", *map(str, arguments)], check=True)


def pip(command: str, *arguments: str | Path) -> None:
    python("pip", command, "--quiet", "--disable-pip-version-check", *arguments)


def fetch_for_here(folder: Path, extras: str, torch_index: str | None) -> None:
    index = ("--extra-index-url", torch_index) if torch_index else ()
    pip("wheel", "--wheel-dir", folder, *index, f"{ROOT}[{extras}]")


def fetch_for(folder: Path, extras: str, torch_index: str | None, version: str, platform: str) -> None:
    """Wheels for another Python or platform; packages that have no wheel for it are an error."""
    target = uv_platform(platform)
    pip("wheel", "--wheel-dir", folder, "--no-deps", ROOT)
    with tempfile.TemporaryDirectory() as scratch:
        pip("install", "--target", scratch, "uv")
        chosen = Path(scratch, "requirements.txt")
        index = ("--index", torch_index, "--index-strategy", "unsafe-best-match") if torch_index else ()
        subprocess.run(
            [Path(scratch, "bin", "uv"), "pip", "compile", "--quiet", ROOT / "pyproject.toml"]
            + [argument for extra in extras.split(",") for argument in ("--extra", extra)]
            + ["--python-version", version, "--python-platform", target, "--only-binary", ":all:"]
            + ["--no-annotate", "--no-header", "--output-file", chosen, *index],
            check=True,
        )
        abi = f"cp{version.replace('.', '')}"
        tags = [argument for tag in platform_tags(platform) for argument in ("--platform", tag)]
        tags += [argument for name in (abi, "abi3", "none") for argument in ("--abi", name)]
        index = ("--extra-index-url", torch_index) if torch_index else ()
        pip(
            "download", "--no-deps", "--only-binary", ":all:", "--dest", folder, "--python-version", version,
            "--implementation", "cp", *tags, *index, "--requirement", chosen,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--extras", default="cluster", help="of pyproject.toml, with commas (default: cluster)")
    parser.add_argument("--torch-index", help="address of an index of torch for CPUs, or for another CUDA")
    parser.add_argument("--python-version", help="of the machines that install, such as 3.13")
    parser.add_argument("--platform", help="of these machines, such as manylinux_2_28_x86_64")
    options = parser.parse_args()
    if bool(options.python_version) != bool(options.platform):
        parser.error("give both of --python-version and --platform, or neither")
    try:
        if options.platform:
            fetch_for(options.folder, options.extras, options.torch_index, options.python_version, options.platform)
        else:
            fetch_for_here(options.folder, options.extras, options.torch_index)
    except subprocess.CalledProcessError as error:
        raise SystemExit(error.returncode) from None  # it has said what is wrong
    wheels = list(options.folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels) / 1e6
    cuda = any(wheel.name.startswith("nvidia_") for wheel in wheels)
    print(f"{options.folder}: {len(wheels)} wheels, {size:.0f} MB, torch {'with' if cuda else 'without'} CUDA")


if __name__ == "__main__":
    main()
