"""What `lllm.capture` adds to a call: the official SDK against a server on this machine, recorded
in a durable log and not recorded, in turns. The calls are those of a program: a few messages, an
answer of some hundred characters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks.measure import Bar, Figure, Spread, in_rounds, median_shown
from benchmarks.model_server import serving
from lllm import LogStore, SQLiteBackend, capture

AREA = "capture"
_MESSAGES = [
    {"role": "system", "content": "You answer questions about orders, briefly."},
    {"role": "user", "content": "When was order A-100 placed, and where is it now? " * 5},
]


def figures(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """A call inside of a session, and one that is a session of its own, beside the bare client."""
    from openai import OpenAI

    folder.mkdir()
    with serving() as url, LogStore(SQLiteBackend(folder / "runs.db")) as store:
        bare = OpenAI(base_url=url, api_key="none", max_retries=0)
        heard = capture(OpenAI(base_url=url, api_key="none", max_retries=0), log_store=store)

        def asking(client: OpenAI) -> Callable[[], object]:
            return lambda: client.chat.completions.create(
                model="gpt-4o-mini",
                messages=_MESSAGES,  # type: ignore[arg-type] # as users write them
            )

        calls = {"bare": asking(bare), "captured": asking(heard)}
        rounds = 300 if quick else 2_000
        with store.session("benchmark"):
            yield from _added("a call inside of a session", in_rounds(calls, rounds))
        yield from _added("a call that is a session", in_rounds(calls, rounds))
        bare.close()
        heard.close()


def _added(what: str, taken: Mapping[str, list[int]]) -> Iterator[Figure]:
    bare, captured = taken["bare"], taken["captured"]
    added = Spread.of((one - other) / 1_000 for one, other in zip(captured, bare, strict=True))
    beside = f"bare {median_shown(bare)}; captured {median_shown(captured)}"
    bar = Bar(250, "at most") if "inside" in what else None
    yield Figure(AREA, f"what capture adds to {what}", added, "µs", beside, bar)
