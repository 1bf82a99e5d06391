"""Reads the value of `--prices`: a keyword, or a file with a price table."""

from __future__ import annotations

import json
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click

if TYPE_CHECKING:
    from lllm.pricing.user_prices import PriceTable

_SUFFIXES = (".json", ".toml")


def prices_of(text: str) -> Literal["recorded", "current"] | PriceTable:
    """Read the value of `--prices`.

    Args:
        text: "recorded", "current", or the path of a JSON or TOML file with a dict as for
            `LogStore(prices=)`: models, and their rates in US dollars for a million tokens.

    Returns:
        The word, or the table in the file.

    Raises:
        click.UsageError: The text is neither a word nor such a path, or the file can't be read.
        ConfigError: The file has a price that is not valid.
    """
    if text in ("recorded", "current"):
        return cast(Literal["recorded", "current"], text)
    path = Path(text)
    if path.suffix.lower() not in _SUFFIXES:
        raise click.UsageError(
            f"--prices is recorded, current, or a file named *.json or *.toml; not {text!r}."
        )
    from lllm.pricing.user_prices import PriceTable

    return PriceTable.of(_read_table(path))


def _read_table(path: Path) -> object:
    # Numbers are read as decimals, so that 0.1 is exactly 0.1.
    try:
        written = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".toml":
            return tomllib.loads(written, parse_float=Decimal)
        table: object = json.loads(written, parse_float=Decimal)
    except (ValueError, RecursionError) as error:  # errors of JSON, TOML and UTF-8
        raise click.UsageError(f"{path} can't be read: {error}") from error
    if not isinstance(table, dict):
        raise click.UsageError(f"{path} is not a table of models and their prices.")
    return table
