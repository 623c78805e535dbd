# locloc for CPUs and NVIDIA GPUs. It needs no network: the packages come from the folder that `make wheelhouse` fills.
#
#   make wheelhouse && docker build -t locloc .
#   docker run --rm --read-only --tmpfs /tmp -v /data:/data locloc masks build /data/photos --store /data/photos.store
#   docker run --gpus all ...        with a torch for CUDA in the wheelhouse; the driver is the host's
#
# One user without rights, no file written outside /tmp and what you mount. On a cluster: apptainer.def, docs/cluster.md.

ARG PYTHON=3.11
FROM python:${PYTHON}-slim

RUN --mount=type=bind,source=dist/wheelhouse,target=/wheelhouse \
    python -m pip install --no-cache-dir --no-index --find-links=/wheelhouse 'locloc[cluster]'

# Compiled kernels, matplotlib's fonts and downloads, where a read-only root file system lets them be written.
ENV HOME=/tmp/locloc \
    NUMBA_CACHE_DIR=/tmp/locloc/numba \
    MPLCONFIGDIR=/tmp/locloc/matplotlib \
    XDG_CACHE_HOME=/tmp/locloc/cache \
    PYTHONDONTWRITEBYTECODE=1

RUN useradd --uid 1000 --no-create-home locloc
USER 1000:1000
WORKDIR /data
ENTRYPOINT ["locloc"]
CMD ["--help"]
