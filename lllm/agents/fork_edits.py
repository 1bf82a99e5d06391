"""Applies the change that a fork makes to an agent and its dialog.

The log records what is really sent: the messages of a changed dialog are added to a new dialog with
the same alias, which takes the place of the old one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import msgspec

from lllm.agents.prompt import Prompt
from lllm.events.errors import ConfigError, ReplayError
from lllm.events.model import Content, DialogOpened, SessionEdited

if TYPE_CHECKING:
    from lllm.agents.agent import Agent
    from lllm.agents.dialog import Dialog

_NONE = msgspec.UNSET


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """A change that a fork makes at its point: `tactic.fork(session_id, edit=Edit(model="gpt-5"))`.

    `message` and `tool_result` change what the model is sent at that point. `model`, `parameters`
    and `prompt` change the agent from there on, also in dialogs that begin later.

    Attributes:
        message: The new text of the user message that is answered at the point; None to keep it.
        tool_result: The new result of a tool that the model's last answer called.
        tool: The tool whose result is replaced, by its name or the id of its call. It is required
            if the answer called several tools; None for the only one.
        model: The model to call; its provider is found as in the tactic's configuration. None to
            keep it.
        parameters: New parameters of the model, by the provider's names; others are kept.
        prompt: The new text of the system prompt, without placeholders; "" for none, None to keep
            it.

    Raises:
        ConfigError: Nothing is changed, or a value is invalid.
    """

    message: str | None = None
    tool_result: object = _NONE
    tool: str | None = None
    model: str | None = None
    parameters: Mapping[str, object] | None = None
    prompt: str | None = None

    def __post_init__(self) -> None:
        for name in ("message", "tool", "model", "prompt"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ConfigError(f"Edit({name}=...) is a text, not {value!r}.")
        if self.parameters is not None and not isinstance(self.parameters, Mapping):
            raise ConfigError(f"Edit(parameters=...) is a dict, not {self.parameters!r}.")
        if self.tool is not None and not self.changes_tool:
            raise ConfigError("Edit(tool=...) needs tool_result=..., which is missing.")
        if self.changes_tool and self.message is not None:
            raise ConfigError(
                "Edit changes a message or a tool's result, not both: only one of them is answered."
            )
        if not self.changes_tool and not self._changes_agent:
            raise ConfigError(
                "Edit changes nothing: give message, tool_result, model, parameters or prompt."
            )

    @property
    def changes_tool(self) -> bool:
        """True if the edit changes the result of a tool."""
        return self.tool_result is not _NONE

    @property
    def _changes_agent(self) -> bool:
        rest = (self.message, self.model, self.parameters, self.prompt)
        return any(one is not None for one in rest)

    @property
    def without_tool(self) -> Edit | None:
        """The edit without the result of a tool; None if nothing else is changed."""
        if not self._changes_agent:
            return None
        return msgspec.structs.replace(self, tool_result=_NONE, tool=None)


class TurnEdit(msgspec.Struct, frozen=True):
    """The change at one turn of the model; see `BeginTurn`.

    Attributes:
        edit: The change; None if only a tool's result is changed.
        tool: The number, within the session, of the tool whose result was replaced; None if none
            was.
    """

    edit: Edit | None
    tool: int | None = None


def turn_edit(edited: SessionEdited, tool: int | None) -> TurnEdit:
    """Repeat the change that a recorded fork made.

    Args:
        edited: The recorded change.
        tool: The number of the tool whose result was replaced; None if none was.

    Returns:
        The change for this turn.
    """
    given = (edited.message, edited.model, edited.params, edited.prompt)
    if all(one is None for one in given):
        return TurnEdit(None, tool)
    params = cast("Mapping[str, object] | None", edited.params)
    edit = Edit(message=edited.message, model=edited.model, parameters=params, prompt=edited.prompt)
    return TurnEdit(edit, tool)


def check_message(last: Content | None) -> None:
    """Check that the message to answer at the point of a fork is a user's.

    Args:
        last: The last message of the dialog; None if it is empty.

    Raises:
        ReplayError: It is not, so `Edit(message=...)` has nothing to change.
    """
    if last is None or last.role != "user":
        what = {"tool": "the result of a tool, which tool_result changes"}.get(
            "" if last is None else last.role, "no message of the user"
        )
        raise ReplayError(
            f"Edit(message=...) changes the user's message that is answered at the point of the "
            f"fork, and there it is {what}. Choose the point that answers the message."
        )


def apply_edit(agent: Agent, dialog: Dialog, edit: Edit) -> None:
    """Change an agent, and the dialog that it is about to answer.

    Args:
        agent: The agent, which is changed from now on.
        dialog: The dialog; its changed messages are recorded as a new dialog with the same alias.
        edit: The change. The result of a tool is not changed here, but when the tool is answered.

    Raises:
        ReplayError: The edit has a message, but the last message of the dialog is not the user's.
        ConfigError: The model is unknown.
    """
    contents = list(dialog.contents)
    if edit.message is not None:
        check_message(contents[-1] if contents else None)
        contents[-1] = Content.of("user", edit.message)
    if edit.model is not None:
        agent.config = agent.with_model(edit.model)
    if edit.parameters is not None:
        args = agent.config.model_args | dict(edit.parameters)
        agent.config = msgspec.structs.replace(agent.config, model_args=args)
    if edit.prompt is not None:
        said = agent.config.system_prompt
        text = edit.prompt.replace("{", "{{").replace("}", "}}")
        prompt: Prompt = Prompt(said.path, text, said.tools, parser=said.parser, format=said.format)
        agent.config = msgspec.structs.replace(agent.config, system_prompt=prompt)
        has_prompt = bool(contents) and contents[0].role == "system"
        contents[: int(has_prompt)] = [Content.of("system", edit.prompt)] if edit.prompt else []
    _rewrite(agent, dialog, contents)


def _rewrite(agent: Agent, dialog: Dialog, contents: list[Content]) -> None:
    before = dialog.contents
    pairs = zip(before, contents, strict=False)
    same = next((at for at, (one, other) in enumerate(pairs) if one is not other), len(before))
    if same == len(before) == len(contents):
        return
    parent, number = dialog.number, agent.recorder.ordinal("dialog")
    upto = dialog.restart(number, same)
    agent.recorder.stage(
        DialogOpened(
            dialog=number,
            agent=agent.name,
            alias=dialog.alias,
            parent=None if upto is None else parent,
            upto=upto,
        )
    )
    for content in contents[same:]:
        agent.add(dialog, content, "edit")
