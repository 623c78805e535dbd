"""`locloc` and `python -m locloc`: prepares the process, then imports and runs the command line."""

import sys

from .pipeline.io.environment import prepare_environment
from .pipeline.io.exit_codes import exit_code_of


def main() -> None:
    """Console script. Whatever ends the command is one line and an exit code, see `pipeline/io/exit_codes.py`."""
    sys.exit(exit_code_of(_run))


def _run() -> None:
    prepare_environment()
    from .cli import app  # here: a library that is missing is reported too

    app()


if __name__ == "__main__":
    main()
