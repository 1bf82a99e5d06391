"""Names the steps of a session and their attempts in the same words wherever they are shown."""

from __future__ import annotations

from lllm.events.model import State


def step_name(step: int, attempt: int, state: State) -> str:
    """Name an attempt to call a model.

    A step that succeeds at once has one attempt, which needs no number. An attempt that failed has
    one, and so have the attempts after it: "step 2, attempt 1", then "step 2, attempt 2".

    Args:
        step: The number of the model's turn within the agent call.
        attempt: The number of the attempt within that turn.
        state: The state of the attempt.

    Returns:
        The name, as "step 2" or "step 2, attempt 1".
    """
    if attempt > 1 or state == "failure":
        return f"step {step:,}, attempt {attempt:,}"
    return f"step {step:,}"
