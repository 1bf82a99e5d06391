"""The command `lllm`: `commands/` says what there is to type, `render/` how it looks, `open_store`
which store is meant, and `exit_codes` how it ends."""

from __future__ import annotations

from lllm.cli.program import cli, main

__all__ = ["cli", "main"]
