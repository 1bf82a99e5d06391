"""Sets the price of an answered attempt to 0, because no model was called again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from lllm.events.model import LLMRefused, Price
from lllm.replay.active_replay import E
from lllm.replay.outcome import price_of_answered

if TYPE_CHECKING:
    from lllm.replay.replay import Replay


class AnsweredPrices:
    """The prices of the attempts of one session, those that the recording answered and others.

    Args:
        replay: The replay that the session belongs to.
    """

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._given: set[int] = set()  # id() of recorded prices, kept in memory
        self._billed: set[int] = set()  # requests that a model was really asked

    def give(self, price: Price | None) -> None:
        """Note a recorded price, which the answer of a recorded attempt brings along.

        Args:
            price: The price in the recording, the same object that the answer has.
        """
        self._given.add(id(price))

    def unbilled(self, event: E) -> E:
        """Set the cost of an answered attempt to 0; see `Replaying.unbilled`.

        Args:
            event: The end of the attempt.

        Returns:
            The event with a cost of 0; unchanged if a model was really asked.
        """
        if isinstance(event, LLMRefused):
            if event.request in self._billed:
                return event
            return msgspec.structs.replace(event, cost=0)
        asked = event.price is not None and id(event.price) not in self._given
        if asked and self._replay.bills:
            self._billed.add(event.request)
            return event
        return msgspec.structs.replace(event, price=price_of_answered(event.price))
