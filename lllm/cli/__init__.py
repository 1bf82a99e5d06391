"""The command `lllm`.

commands/    what there is to type
render/      how it looks
options      what several commands can be told
open_store   which store is meant
exit_codes   how a command ends
"""

from __future__ import annotations

from lllm.cli.program import cli, main

__all__ = ["cli", "main"]
