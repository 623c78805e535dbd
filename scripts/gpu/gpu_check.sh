#!/bin/bash
# All checks that need a GPU, in one call that ends within BUDGET seconds. Results: JSON lines in $OUT/results.jsonl.
#     bash scripts/gpu/gpu_check.sh                    all steps, 470 s at most
#     BUDGET=200 bash scripts/gpu/gpu_check.sh a,b,c   some of them
# GPU_KIT, by default .gpu in the repository, may have whl/ (made by wheels.sh: packages that the machine lacks) and
# horses/ (rgb/, mask/: photographs for the cut). Without a GPU the steps run in small sizes on the CPU, to test their
# code: PYTHON=.venv/bin/python bash scripts/gpu/gpu_check.sh
set -u
here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3} site=${SITE:-/tmp/locloc-gpu-site}
export GPU_KIT=${GPU_KIT:-$repo/.gpu} OUT=${OUT:-/tmp/locloc-gpu-out}
mkdir -p "$OUT" "$site"
if [ ! -e "$site/.installed" ] && ls "$GPU_KIT"/whl/*.whl >/dev/null 2>&1; then
  "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check \
    --upgrade --target "$site" "$GPU_KIT"/whl/*.whl || exit 1
  touch "$site/.installed"
fi
ln -sfn "$repo" "$site/locloc"   # the repository's root is the package
export PYTHONPATH=$site PYTHONUNBUFFERED=1 PYTHONPYCACHEPREFIX=${PYTHONPYCACHEPREFIX:-/tmp/locloc-pycache} HF_HUB_OFFLINE=1
export NUMBA_CACHE_DIR=${NUMBA_CACHE_DIR:-/tmp/locloc-numba}
export GPU_CHECK_WORK=${GPU_CHECK_WORK:-/tmp/locloc-gpu-work}
# Dask would pause or kill workers on a machine whose memory grows as it is used: little seems free at first.
export DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE=False
export DASK_DISTRIBUTED__DIAGNOSTICS__NVML=False
exec "$python" "$here/run.py" run --out "$OUT" --budget "${BUDGET:-470}" --only "${1:-}"
