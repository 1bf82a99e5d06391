"""The command `lllm`.

commands/    the commands
render/      the output of the commands
options      the options that several commands share
open_store   finding and opening the store
exit_codes   exit codes and error messages
"""

from __future__ import annotations

from lllm.cli.program import cli, main

__all__ = ["cli", "main"]
