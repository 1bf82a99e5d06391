"""An agent: a model with a system prompt and tools, and the dialogs that it holds.

An agent lives for one call of its tactic. Its dialogs are append-only; `respond` has the model
answer the current one, and is one agent call in the session's record (see
`lllm.agents.agent_loop`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

import msgspec

from lllm.agents.agent_loop import respond
from lllm.agents.answer_stream import AnswerStream
from lllm.agents.config import AgentConfig, only_once
from lllm.agents.dialog import Dialog, Message
from lllm.agents.effects import Steps, adrive, drive
from lllm.agents.model_calls import OnPiece
from lllm.agents.prompt import Prompt
from lllm.events.errors import ConfigError
from lllm.events.model import AgentDefined, Content, DialogOpened, MessageAdded
from lllm.events.values.json_values import to_plain
from lllm.invokers.secret_params import without_secrets
from lllm.sessions.session import SessionScope
from lllm.tools.results import result_text
from lllm.tools.tool import Tool

T = TypeVar("T")


class Agent:
    """An agent during one call of a tactic.

    Args:
        config: The agent's configuration.
        session: The session of the tactic's call.
        with_model: A function that makes the agent's configuration for another model, or None.
    """

    def __init__(
        self,
        config: AgentConfig,
        session: SessionScope,
        with_model: Callable[[str], AgentConfig] | None = None,
    ) -> None:
        self.config = config
        self.name = config.name
        self.session = session
        self.recorder = session.recorder
        self._dialogs: dict[str, Dialog] = {}
        self._current: Dialog | None = None
        self._prompts: dict[str, Prompt] = {}  # the last with a format or tools, by alias
        self._with_model = with_model
        self.calls = 0

    def __repr__(self) -> str:
        return f"<Agent {self.name}>"

    # -- dialogs

    def open(self, alias: str = "main", prompt_args: Mapping[str, object] | None = None) -> Dialog:
        """Begin a dialog with the system prompt, and make it current.

        Args:
            alias: The agent's name for the dialog.
            prompt_args: Values for the placeholders of the system prompt.

        Returns:
            The dialog.

        Raises:
            PromptError: A placeholder has no value.
            ConfigError: The alias is taken.
        """
        text = self.config.system_prompt.render(prompt_args)
        self._check_free(alias)
        dialog = self._enter(Dialog(self.recorder.ordinal("dialog"), alias))
        self.recorder.stage(DialogOpened(dialog=dialog.number, agent=self.name, alias=alias))
        if text:
            self.add(dialog, Content.of("system", text), "system", prompt_args=prompt_args)
        return dialog

    def fork(self, alias: str, child_alias: str) -> Dialog:
        """Begin a dialog with the messages of another one so far, and make it current.

        Args:
            alias: The dialog to begin from.
            child_alias: The agent's name for the new dialog.

        Returns:
            The new dialog.

        Raises:
            ConfigError: There is no dialog `alias`, or `child_alias` is taken.
        """
        parent = self._dialog(alias)
        self._check_free(child_alias)
        number = self.recorder.ordinal("dialog")
        dialog = self._enter(parent.forked(number, child_alias))
        if alias in self._prompts:
            self._prompts[child_alias] = self._prompts[alias]
        opened = DialogOpened(
            dialog=number,
            agent=self.name,
            alias=child_alias,
            parent=parent.number,
            upto=parent.last_ordinal,
        )
        self.recorder.stage(opened)
        return dialog

    def switch(self, alias: str) -> Dialog:
        """Make another open dialog the current one.

        Args:
            alias: The agent's name for it.

        Returns:
            The dialog.

        Raises:
            ConfigError: There is no dialog of that name.
        """
        self._current = self._dialog(alias)
        return self._current

    def close(self, alias: str | None = None) -> None:
        """Close a dialog; its alias can be used again.

        Args:
            alias: The agent's name for it; the current dialog by default.

        Raises:
            ConfigError: There is no dialog of that name, or no current one.
        """
        dialog = self.current_dialog if alias is None else self._dialog(alias)
        del self._dialogs[dialog.alias]
        self._prompts.pop(dialog.alias, None)
        if self._current is dialog:
            self._current = None

    @property
    def current_dialog(self) -> Dialog:
        """The dialog that `receive` and `respond` work on.

        Raises:
            ConfigError: No dialog is open.
        """
        if self._current is None:
            raise ConfigError(f"Agent {self.name!r} has no current dialog; call open(alias) first.")
        return self._current

    def _enter(self, dialog: Dialog) -> Dialog:
        self._dialogs[dialog.alias] = self._current = dialog
        return dialog

    def _check_free(self, alias: str) -> None:
        if alias in self._dialogs:
            raise ConfigError(
                f"Agent {self.name!r} has a dialog {alias!r} already; switch({alias!r}) goes to it."
            )

    def _dialog(self, alias: str) -> Dialog:
        if alias not in self._dialogs:
            known = ", ".join(self._dialogs) or "none"
            raise ConfigError(f"Agent {self.name!r} has no dialog {alias!r}; open are: {known}.")
        return self._dialogs[alias]

    # -- messages

    def receive(self, text: object) -> Message:
        """Add a user message to the current dialog.

        Args:
            text: The message; a value that is not a str, such as a dict, is sent as JSON.

        Returns:
            The message.

        Raises:
            ConfigError: There is no current dialog.
        """
        return self.add(self.current_dialog, Content.of("user", result_text(text)), "user")

    def receive_prompt(
        self, prompt: Prompt, prompt_args: Mapping[str, object] | None = None
    ) -> Message:
        """Add a prompt to the current dialog, as a user message.

        From now on the model may also use the prompt's tools, and answers must fit the prompt's
        parser or format, until another prompt with one of these is received.

        Args:
            prompt: The prompt.
            prompt_args: Values for its placeholders.

        Returns:
            The message.

        Raises:
            PromptError: A placeholder has no value.
            ConfigError: There is no current dialog.
        """
        text = prompt.render(prompt_args)
        dialog = self.current_dialog
        if prompt.parses or prompt.tools:
            self._prompts[dialog.alias] = prompt
        return self.add(
            dialog, Content.of("user", text), "user", prompt=prompt, prompt_args=prompt_args
        )

    def add(
        self,
        dialog: Dialog,
        content: Content,
        why: str,
        *,
        prompt: Prompt | None = None,
        prompt_args: Mapping[str, object] | None = None,
    ) -> Message:
        """Add a message to a dialog, and record it.

        Args:
            dialog: The dialog.
            content: The message; one that no other event carries.
            why: system, user, retry or limit.
            prompt: The prompt that it was made from.
            prompt_args: The values of the prompt's placeholders.

        Returns:
            The message.
        """
        ordinal = self.recorder.ordinal("message")
        self.recorder.stage(
            MessageAdded(
                message=ordinal,
                dialog=dialog.number,
                content=content,
                why=why,
                prompt=prompt.path if prompt else None,
                prompt_args=to_plain(dict(prompt_args)) if prompt_args else None,
            )
        )
        dialog.add(ordinal, content)
        return Message(role=content.role, content=content.text)

    # -- answers

    @overload
    def respond(
        self,
        on_text: OnPiece | None = None,
        *,
        prompt: Prompt[T],
        prompt_args: Mapping[str, object] | None = None,
    ) -> Message[T]: ...

    @overload
    def respond(self, on_text: OnPiece | None = None) -> Message[Any]: ...

    def respond(
        self,
        on_text: OnPiece | None = None,
        *,
        prompt: Prompt[T] | None = None,
        prompt_args: Mapping[str, object] | None = None,
    ) -> Message[T]:
        """Ask the model to answer the current dialog.

        Runs the tools that the model calls, retries failed calls, and asks the model again if its
        answer can't be parsed.

        Args:
            on_text: A function that is called with each piece of the answer as it arrives (see
                Piece), or once with the whole text if the invoker can't stream. An error that it
                raises ends the call.
            prompt: A prompt to receive first, as `receive_prompt` does; with it, type checkers know
                the type of the answer's `parsed`.
            prompt_args: Values for the placeholders of the prompt.

        Returns:
            The answer.

        Raises:
            ConfigError: The dialog is empty, or there is none.
            AgentError: All retries failed.
            InvokeError: A call failed with an error for which a retry makes no sense.
            BudgetExceeded: The budget of the session is spent.
            LogUnavailable: The log can't be written, and the store has `on_error="raise"`; the
                model is not called.
        """
        return drive(self._steps(on_text, prompt, prompt_args), self.recorder)

    @overload
    async def arespond(
        self,
        on_text: OnPiece | None = None,
        *,
        prompt: Prompt[T],
        prompt_args: Mapping[str, object] | None = None,
    ) -> Message[T]: ...

    @overload
    async def arespond(self, on_text: OnPiece | None = None) -> Message[Any]: ...

    async def arespond(
        self,
        on_text: OnPiece | None = None,
        *,
        prompt: Prompt[T] | None = None,
        prompt_args: Mapping[str, object] | None = None,
    ) -> Message[T]:
        """Ask the model to answer the current dialog, on an event loop; see `respond`.

        Async tools that the model calls in one answer run at the same time; the model gets their
        results in the order of the calls.

        Args:
            on_text: A function that is called on the event loop with each piece of the answer.
            prompt: A prompt to receive first.
            prompt_args: Values for the placeholders of the prompt.

        Returns:
            The answer.

        Raises:
            LllmError: The same errors as those of `respond`.
        """
        return await adrive(self._steps(on_text, prompt, prompt_args, on_loop=True), self.recorder)

    def stream(self) -> AnswerStream:
        """Ask the model to answer, and return an `async for` over the pieces of its text.

        Returns:
            The stream; its `message` is the whole answer.
        """
        return AnswerStream(self.arespond)

    def _steps(
        self,
        on_text: OnPiece | None,
        prompt: Prompt[T] | None,
        prompt_args: Mapping[str, object] | None,
        *,
        on_loop: bool = False,
    ) -> Steps[Message[T]]:
        """The shared steps of `respond` and `arespond`, for `drive` and `adrive`."""
        if prompt is not None:
            self.receive_prompt(prompt, prompt_args)
        if inspect.iscoroutinefunction(on_text):
            raise ConfigError(
                "on_text is a plain function; to await something for each piece, use "
                "`async for piece in agent.stream()`."
            )
        dialog = self.current_dialog
        if not len(dialog):
            raise ConfigError(
                f"The dialog {dialog.alias!r} of agent {self.name!r} is empty: there is nothing to "
                "answer. Call receive(text) first."
            )
        return respond(self, dialog, on_text, on_loop=on_loop)

    # -- what a call is made with

    def with_model(self, model: str) -> AgentConfig:
        """Make the agent's configuration for another model, with the invoker of that model.

        Args:
            model: The name of another model.

        Returns:
            The configuration.

        Raises:
            ConfigError: No invoker is known for the model.
        """
        if self._with_model is None:
            return msgspec.structs.replace(self.config, model_name=model)
        made = self._with_model(model)
        return msgspec.structs.replace(
            self.config, model_name=model, invoker=made.invoker, provider=made.provider
        )

    def prompt_of(self, dialog: Dialog) -> Prompt:
        """The prompt that defines the form of an answer.

        Args:
            dialog: The dialog to answer.

        Returns:
            The last prompt with a parser, a format or tools; else the system prompt.
        """
        return self._prompts.get(dialog.alias, self.config.system_prompt)

    def tools_of(self, dialog: Dialog) -> tuple[Tool[..., object], ...]:
        """The tools that the model may ask for.

        Args:
            dialog: The dialog to answer.

        Returns:
            The tools of the agent, of its system prompt and of the last prompt.

        Raises:
            ConfigError: Two of them have the same name.
        """
        config = self.config
        tools = (*config.tools, *config.system_prompt.tools, *self.prompt_of(dialog).tools)
        return only_once(tools, f"agent {self.name!r}")

    def definition_of(self, dialog: Dialog) -> AgentDefined:
        """The agent's whole definition, as it is recorded.

        Args:
            dialog: The dialog to answer.

        Returns:
            The definition, without secrets.
        """
        config, prompt = self.config, self.prompt_of(dialog)
        return AgentDefined(
            name=self.name,
            system=config.system_prompt.prompt,
            prompts=() if prompt is config.system_prompt else (prompt.path,),
            provider=config.provider,
            model=config.model_name,
            params=to_plain(without_secrets(config.model_args)),
            tools=tuple(tool.definition for tool in self.tools_of(dialog)),
            output_schema=prompt.output_schema(),
        )
