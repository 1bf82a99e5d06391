"""The command line, as `python -m lllm`, where no script `lllm` is on the path."""

import sys

from lllm.cli import main

sys.exit(main())
