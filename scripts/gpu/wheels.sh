#!/bin/bash
# bash scripts/gpu/wheels.sh DEST: downloads into DEST/whl the packages that a machine with Python 3.12, torch 2.11 and
# timm lacks, such as dask, zarr and icechunk (35 MB). Versions follow an environment where one is given:
#     PYTHON=.venv/bin/python bash scripts/gpu/wheels.sh .gpu
set -eu
dest=${1:?which folder, such as .gpu}
mkdir -p "$dest/whl"
version() { "${PYTHON:-python3}" -c "import importlib.metadata as m; print(m.version('$1'))" 2>/dev/null || echo "$2"; }
for pair in dask:2026.8.0 distributed:2026.8.0 icechunk:1.1.21 zarr:3.1.6 numcodecs:0.16.6 donfig:0.8.1.post1 google-crc32c:1.8.0 \
  tornado:6.6.1 locket:1.0.0 partd:1.4.2 zict:3.0.0 tblib:3.2.2 lightning-fabric:2.6.6 tensorboardX:2.6.5 pycocotools:2.0.11 \
  pydantic:2.14.4 pydantic_core:2.50.5 annotated-types:0.8.0 typing-inspection:0.4.5 pymaxflow:1.3.2; do
  name=${pair%%:*}
  python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 --platform manylinux1_x86_64 -d "$dest/whl" "$name==$(version "$name" "${pair##*:}")"
done
du -sh "$dest/whl"
