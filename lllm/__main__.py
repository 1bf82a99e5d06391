"""Runs the command line with `python -m lllm`, where the script `lllm` is not on the path."""

import sys

from lllm.cli import main

sys.exit(main())
