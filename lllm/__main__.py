"""Runs the command line with `python -m lllm`, for a system where the script is not on the path."""

import sys

from lllm.cli import main

sys.exit(main())
