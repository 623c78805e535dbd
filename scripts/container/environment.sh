# Sourced before locloc starts in an image: compiled kernels and matplotlib's fonts go into a folder of this user in
# TMPDIR, which is of one node and one user: nodes with different CPUs must not share compiled code, and it must not be
# loaded from a folder that another user may have made.

locloc_user=$(id -u)
locloc_scratch=${TMPDIR:-/tmp}/locloc-$locloc_user
mkdir -m 700 "$locloc_scratch" 2>/dev/null || true
if [ -L "$locloc_scratch" ] || [ "$(stat -c %u "$locloc_scratch" 2>/dev/null)" != "$locloc_user" ]; then
    locloc_scratch=$(mktemp -d "${TMPDIR:-/tmp}/locloc-XXXXXX")
fi
export NUMBA_CACHE_DIR="${NUMBA_CACHE_DIR:-$locloc_scratch/numba}"
export MPLCONFIGDIR="${MPLCONFIGDIR:-$locloc_scratch/matplotlib}"
export TRITON_CACHE_DIR="${TRITON_CACHE_DIR:-$locloc_scratch/triton}"
export PYTHONDONTWRITEBYTECODE=1
if [ ! -w "${HOME:-/}" ]; then  # a home folder that may be written keeps its downloaded weights
    export HOME="$locloc_scratch/home"
    mkdir -p "$HOME"
fi
