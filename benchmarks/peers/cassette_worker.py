"""Cassettes: recorded HTTP answers of the official SDK, as vcrpy and cassetter play them back.

Both match a request by its body, too, so that a changed prompt is noticed, as lllm does. A cassette
has few calls, since they look through all of them.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openai import OpenAI

_CALLS = 20  # of a cassette
_MATCHED = ["method", "uri", "body"]


class Worker:
    """A client whose calls a cassette answers."""

    def __init__(self, folder: Path, work: dict[str, Any]) -> None:
        self._library = importlib.import_module(work["library"])
        self._path = str(folder / "cassette.yaml")
        self._client = OpenAI(base_url=work["url"], api_key="none", max_retries=0)
        self._asked = 0
        self._playing = self._cassette("all")
        for _ in range(_CALLS):
            self._ask()
        self.operations = {"call": self._call}

    def _cassette(self, mode: str) -> Any:
        self._asked = 0
        vcr = getattr(self._library, "VCR", None)
        use = self._library.use_cassette if vcr is None else vcr().use_cassette
        cassette = use(self._path, record_mode=mode, match_on=_MATCHED)
        cassette.__enter__()
        return cassette

    def _ask(self) -> object:
        self._asked += 1
        return self._client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": f"Where is order A-{self._asked}? " * 10}],
        )

    def _call(self) -> Callable[[], object]:
        if self._asked == _CALLS:
            self._playing.__exit__(None, None, None)
            self._playing = self._cassette("none")
        return self._ask

    def stored(self) -> dict[str, tuple[int, int]]:
        return {}
