# locloc for CPUs, or for CPUs and NVIDIA GPUs. Its packages come from the folder that `make wheelhouse` fills:
#
#   make wheelhouse && docker build -t locloc .
#   make wheelhouse DEVICE=cuda && docker build --build-arg DEVICE=cuda -t locloc:cuda .
#   docker run --rm --read-only --tmpfs /tmp -v /data:/data locloc masks build /data/photos --store /data/photos.store
#   docker run --gpus all --read-only --tmpfs /tmp:exec ... locloc:cuda ...      Triton loads what it compiled from /tmp
#
# The driver of a GPU is the host's.
#
# One user without rights, no file written outside /tmp and what you mount. On a cluster: apptainer.def, docs/cluster.md.
# Without a container engine the same steps run by scripts/container/empty_root.sh.

ARG PYTHON=3.11
FROM python:${PYTHON}-slim
ARG DEVICE=cpu

# Triton, which is in torch's wheels for CUDA, compiles a few lines of C; without a compiler the engine is slower.
RUN if [ "$DEVICE" = cuda ]; then \
        apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -r /var/lib/apt/lists/*; \
    fi

COPY scripts/container /usr/local/lib/locloc
RUN --mount=type=bind,source=dist,target=/dist sh /usr/local/lib/locloc/install.sh "/dist/wheelhouse-$DEVICE"
ENV PATH=/opt/locloc/bin:$PATH

RUN useradd --uid 1000 --no-create-home locloc
USER 1000:1000
WORKDIR /data
ENTRYPOINT ["sh", "/usr/local/lib/locloc/run.sh"]
CMD ["--help"]
