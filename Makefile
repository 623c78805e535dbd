# Everything sets itself up: the first target that needs Python makes .venv and installs the package into it, with uv
# where it is there, else with venv and pip. `make test PYTHON=python3.13` takes another Python (3.11 or newer).

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTEST := $(RUN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-slow test-all test-icechunk2 check docs bench wheelhouse clean

demo: $(INSTALLED)
	$(RUN)/locloc demo demo

# What a change needs, in some seven minutes on two cores.
test: $(INSTALLED)
	$(PYTEST) -m "not slow"

# The rest: fault campaigns, many builders at once, clusters of processes.
test-slow: $(INSTALLED)
	$(PYTEST) -m slow

test-all: test test-slow

# The store's tests with Icechunk 2, which needs Python 3.12 or newer, in an environment of their own without torch. pyenv
# finds its Python by the variable.
PYTHON_ICECHUNK2 ?= python3.13
RUN_ICECHUNK2 := .venv-icechunk2/bin
STORE_PACKAGES := 'icechunk>=2,<3' botocore fsspec hypothesis jinja2 numba numpy obstore opencv-python-headless pillow pyarrow \
	pycocotools pydantic pytest pytest-xdist rich safetensors typer xarray zarr

test-icechunk2:
	@export PYENV_VERSION=3.13; \
	if $(PYTHON_ICECHUNK2) -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then \
		$(PYTHON_ICECHUNK2) -m venv .venv-icechunk2 && \
		$(RUN_ICECHUNK2)/python -m pip install --quiet --disable-pip-version-check $(STORE_PACKAGES) && \
		$(RUN_ICECHUNK2)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . && \
		$(RUN_ICECHUNK2)/python -m pytest -n 2 --dist loadfile -m "not slow" tests/pipeline/store; \
	else \
		echo "$(PYTHON_ICECHUNK2) is not here: the store is not tested with Icechunk 2"; \
	fi

check: $(INSTALLED)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/lint-imports
	@mkdir -p $(VENV)/typing && ln -sfn "$(CURDIR)" $(VENV)/typing/locloc  # the root is the package
	MYPYPATH=$(VENV)/typing $(RUN)/mypy -m locloc -m locloc.cli -p locloc.pipeline -p locloc.trainer

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict

# Set IMAGES and TRUTH to folders of photographs and masks to measure on them too.
bench: $(INSTALLED)
	$(RUN)/python scripts/measure_build.py $(if $(IMAGES),--images $(IMAGES))
	$(if $(TRUTH),$(RUN)/python scripts/measure_grabcut.py $(IMAGES) $(TRUTH))

# Wheels of locloc and of all that it needs, in dist/wheelhouse-cpu or -cuda, for machines without internet
# (docs/cluster.md) and for images (Dockerfile, apptainer.def). For CPUs alone set TORCH_INDEX to the index of PyTorch's CPU
# wheels; for a Python or system other than this one's set FOR, as in
#   make wheelhouse FOR="--python-version 3.13 --platform manylinux_2_28_aarch64"
DEVICE ?= cpu
wheelhouse:
	$(PYTHON) scripts/wheelhouse.py dist/wheelhouse-$(DEVICE) $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX)) $(FOR)

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "locloc needs Python 3.11 or newer; try: make PYTHON=python3.12"; exit 1; }
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python "$$(command -v $(PYTHON))" $(VENV) && \
		uv pip install --quiet --python $(RUN)/python --editable '.[dev]'; \
	else \
		$(PYTHON) -m venv $(VENV) && \
		$(RUN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'; \
	fi
	@$(RUN)/python scripts/compile_kernels.py
	@touch $@

clean:
	rm -rf $(VENV) .venv-icechunk2 demo build dist site *.egg-info
