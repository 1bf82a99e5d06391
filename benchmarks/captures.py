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
Messages = Callable[[], list[dict[str, str]]]
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

        def asking(client: OpenAI, messages: Messages) -> Callable[[], object]:
            return lambda: client.chat.completions.create(
                model="gpt-4o-mini",
                messages=messages(),  # type: ignore[arg-type] # as users write them
            )

        def calls(messages: Messages) -> dict[str, Callable[[], object]]:
            return {"bare": asking(bare, messages), "captured": asking(heard, messages)}

        rounds = 300 if quick else 2_000
        with store.session("benchmark"):
            taken = in_rounds(calls(lambda: _MESSAGES), rounds)
            yield from _added("a call inside of a session", taken, 250)
        for size, bar in ((20, 300), (200, 600)):
            with store.session("benchmark"):
                taken = in_rounds(calls(_Conversation(size * 1_000).next), rounds // 4)
                yield from _added(f"a call of {size} kB inside of a session", taken, bar)
        taken = in_rounds(calls(lambda: _MESSAGES), rounds)
        yield from _added("a call that is a session", taken)
        bare.close()
        heard.close()


class _Conversation:
    """A conversation whose end is new in each request, as a user's next question is; all before it
    is sent again. size: bytes of what is sent again."""

    def __init__(self, size: int) -> None:
        text = "The order was placed on a Monday, and the parcel is on its way to you. " * 20
        self._before = [
            {"role": "assistant" if n % 2 else "user", "content": f"{n}: {text}"}
            for n in range(size // len(text) + 1)
        ]
        self._asked = 0

    def next(self) -> list[dict[str, str]]:
        """The messages of the next request."""
        self._asked += 1
        question = f"And where is order A-{self._asked} now? " * 5
        return [*self._before, {"role": "user", "content": question}]


def _added(
    what: str, taken: Mapping[str, list[int]], limit: float | None = None
) -> Iterator[Figure]:
    bare, captured = taken["bare"], taken["captured"]
    added = Spread.of((one - other) / 1_000 for one, other in zip(captured, bare, strict=True))
    beside = f"bare {median_shown(bare)}; captured {median_shown(captured)}"
    bar = None if limit is None else Bar(limit, "at most")
    yield Figure(AREA, f"what capture adds to {what}", added, "µs", beside, bar)
