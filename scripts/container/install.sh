#!/bin/sh
# install.sh WHEELHOUSE: installs locloc into /opt/locloc from a folder of wheels (`make wheelhouse`), without a network.
# What Dockerfile, apptainer.def and empty_root.sh have in common.
set -eu

python3 -m venv /opt/locloc
/opt/locloc/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-index --find-links="$1" \
    --upgrade 'locloc[cluster]'
