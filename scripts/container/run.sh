#!/bin/sh
# run.sh ARGUMENTS: `locloc ARGUMENTS`; after python, dask or sh that program. The entry point of the images.
set -eu
. "$(dirname "$0")/environment.sh"
case "${1:-}" in
    python | dask | sh) exec "$@" ;;
    *) exec locloc "$@" ;;
esac
