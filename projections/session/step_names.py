"""Names the steps of a session and their attempts in the same words wherever they are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lllm.events.model import State

if TYPE_CHECKING:
    from lllm.projections.session.call_session import AgentCallSession


def step_name(request: int, step: int, attempt: int, state: State, agent: str = "") -> str:
    """Name an attempt to call a model.

    The name begins with the number of the attempt within its session, which is unique there and
    which `lllm annotate --step` takes. A step that succeeds at once has one attempt, which needs no
    number. An attempt that failed has one, and so have the attempts after it: "#4 step 2, attempt
    1", then "#5 step 2, attempt 2".

    Args:
        request: The number of the attempt within its session.
        step: The number of the model's turn within the agent call.
        attempt: The number of the attempt within that turn.
        state: The state of the attempt.
        agent: The name of the agent, to have it in the name; "" for none.

    Returns:
        The name, as "#1 step 1" or "#5 writer · step 2, attempt 2".
    """
    name = f"#{request} {agent} · step {step:,}" if agent else f"#{request} step {step:,}"
    return f"{name}, attempt {attempt:,}" if attempt > 1 or state == "failure" else name


def numbered_calls(calls: Iterable[AgentCallSession]) -> dict[int, str]:
    """Name the agent calls of a session, so that two calls of one agent have different names.

    Args:
        calls: All agent calls of the session, those of each agent in the order of their start.

    Returns:
        The names by the numbers of the calls: that of the agent, as "writer"; for an agent that
        was called several times, "writer, call 2".
    """
    calls = list(calls)
    times = Counter(call.agent_name for call in calls)
    before: Counter[str] = Counter()
    names = {}
    for call in calls:
        before[call.agent_name] += 1
        number = f", call {before[call.agent_name]:,}" if times[call.agent_name] > 1 else ""
        names[call.call] = f"{call.agent_name}{number}"
    return names
