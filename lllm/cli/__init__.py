"""The command `lllm`, one module a question: `commands` says what there is to type, `render_*` how
it looks, `opening` which store is meant, `exits` what an exit code says."""

from __future__ import annotations

from lllm.cli.commands import cli, main

__all__ = ["cli", "main"]
