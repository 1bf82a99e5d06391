"""Dialogs: they only grow, forks share what came before, and messages are numbered once."""

from __future__ import annotations

from pathlib import Path

import pytest

from lllm import ConfigError, LogStore, ParseError, Prompt, PromptError, SQLiteBackend
from lllm.agents.agent import Agent
from lllm.events import model
from lllm.invokers import Request
from lllm.invokers.scripted import Reply, ScriptedInvoker
from tests.support.runs import Doing, called, config, payloads
from tests.support.sent_messages import sent_by_request


def said(agent: Agent) -> list[tuple[str, str]]:
    """The current dialog, as (role, text)."""
    return [(message.role, message.content) for message in agent.current_dialog.messages]


def run(path: Path, do: object, script: object = None, **agent: object) -> list[model.Event]:
    """The events of one call that does this with its agent."""
    with LogStore(SQLiteBackend(path / "runs.db")) as store:
        given = config(script or echo, **agent)  # type: ignore[arg-type] # a Script
        session = called(Doing(lambda self: do(self.agents["a"]), given, log_store=store))  # type: ignore[operator] # of an Agent
        return payloads(store, session.session_id)


def echo(request: Request) -> Reply:
    """Answers with what was said last."""
    return f"re: {request.messages[-1].text}"


def test_a_dialog_begins_with_the_system_prompt(tmp_path: Path) -> None:
    """open() begins with the system prompt, filled with prompt_args, and makes it current."""

    def do(agent: Agent) -> None:
        dialog = agent.open("main", prompt_args={"who": "Ann"})
        assert agent.current_dialog is dialog
        agent.receive("hi")
        assert agent.respond().content == "re: hi"
        assert said(agent) == [("system", "Be Ann."), ("user", "hi"), ("assistant", "re: hi")]
        assert len(dialog) == 3

    events = run(tmp_path, do, system_prompt=Prompt("p", "Be {who}."))
    (opened,) = [one for one in events if isinstance(one, model.DialogOpened)]
    assert (opened.dialog, opened.agent, opened.alias, opened.parent) == (1, "a", "main", None)
    first = next(one for one in events if isinstance(one, model.MessageAdded))
    assert (first.why, first.content.text, first.prompt_args) == (
        "system",
        "Be Ann.",
        {"who": "Ann"},
    )


def test_a_missing_argument_of_the_system_prompt_is_named(tmp_path: Path) -> None:
    """open() without a placeholder's value is a PromptError that names it, and opens nothing."""

    def do(agent: Agent) -> None:
        with pytest.raises(PromptError, match="who"):
            agent.open()
        with pytest.raises(ConfigError, match="no current dialog"):
            agent.receive("hi")

    events = run(tmp_path, do, system_prompt=Prompt("p", "Be {who}."))
    assert [event.type for event in events] == ["session.started", "session.succeeded"]


def test_a_plain_system_prompt_may_have_braces(tmp_path: Path) -> None:
    """A system prompt that is a str is said as it stands, braces and all."""

    def do(agent: Agent) -> None:
        agent.open()
        assert said(agent) == [("system", 'Answer {"like": "{this}"}')]

    run(tmp_path, do, system_prompt='Answer {"like": "{this}"}')


def test_without_a_system_prompt_a_dialog_begins_empty(tmp_path: Path) -> None:
    """No system prompt, no message."""

    def do(agent: Agent) -> None:
        assert len(agent.open()) == 0

    run(tmp_path, do)


def test_a_fork_shares_what_came_before(tmp_path: Path) -> None:
    """fork() begins with the parent's messages; what either says later is its own."""

    def do(agent: Agent) -> None:
        agent.open("main")
        agent.receive("one")
        agent.respond()
        agent.fork("main", "left")
        agent.receive("two")
        agent.respond()
        agent.switch("main")
        agent.receive("three")
        agent.respond()
        assert said(agent) == [
            ("user", "one"), ("assistant", "re: one"),
            ("user", "three"), ("assistant", "re: three"),
        ]  # fmt: skip
        agent.switch("left")
        assert said(agent)[2:] == [("user", "two"), ("assistant", "re: two")]
        agent.fork("left", "leftmost")
        agent.respond()

    events = run(tmp_path, do)
    opened = [one for one in events if isinstance(one, model.DialogOpened)]
    assert [(one.dialog, one.alias, one.parent, one.upto) for one in opened] == [
        (1, "main", None, None),
        (2, "left", 1, 2),
        (3, "leftmost", 2, 4),
    ]
    asked = [(one.dialog, one.upto) for one in events if isinstance(one, model.LLMRequested)]
    assert asked == [(1, 1), (2, 3), (1, 5), (3, 4)]
    sent = sent_by_request(events)
    assert [[content.text for content in sent[n]] for n in (3, 4)] == [
        ["one", "re: one", "three"], ["one", "re: one", "two", "re: two"],
    ]  # fmt: skip


def test_every_message_has_one_ordinal(tmp_path: Path) -> None:
    """Over all dialogs of a session, message ordinals count from 1 with no hole and none twice."""

    def do(agent: Agent) -> None:
        for alias in "xyz":
            agent.open(alias)
            agent.receive(alias)
            agent.respond()
            agent.fork(alias, alias + "2")
            agent.receive("again")
            agent.respond()

    events = run(tmp_path, do, system_prompt="Be.")
    ordinals = [
        one.message for one in events if isinstance(one, model.MessageAdded | model.LLMResponded)
    ]
    assert ordinals == list(range(1, len(ordinals) + 1))
    assert len(ordinals) == 3 * 5


def test_a_request_says_what_was_sent(tmp_path: Path) -> None:
    """The dialog and last ordinal of a request tell, with the events, what the model was sent."""
    sent: list[list[str]] = []

    def script(request: Request) -> Reply:
        sent.append([message.text for message in request.messages])
        return f"answer {len(sent)}"

    def do(agent: Agent) -> None:
        agent.open("one")
        agent.receive("a")
        agent.respond()
        agent.open("two")
        agent.receive("b")
        agent.respond()
        agent.fork("one", "three")
        agent.receive("c")
        agent.respond()
        agent.switch("one")
        agent.receive("d")
        agent.respond()

    events = run(tmp_path, do, script, system_prompt="Be.")
    told = sent_by_request(events)
    assert [[content.text for content in told[n + 1]] for n in range(len(sent))] == sent


def test_requests_that_ask_the_same_have_the_same_digest(tmp_path: Path) -> None:
    """The digest is that of what is asked: equal for equal questions, else different."""

    def do(agent: Agent) -> None:
        for alias, text in (("1", "a"), ("2", "a"), ("3", "b")):
            agent.open(alias)
            agent.receive(text)
            agent.respond()

    events = run(tmp_path, do, system_prompt="Be.")
    one, two, three = [e.digest for e in events if isinstance(e, model.LLMRequested)]
    assert one == two != three


def test_a_closed_dialog_is_gone_and_its_alias_free(tmp_path: Path) -> None:
    """close() leaves a dialog, the current one by default; then there is no current dialog."""

    def do(agent: Agent) -> None:
        agent.open("main")
        agent.open("other")
        agent.close("main")
        assert agent.current_dialog.alias == "other"
        agent.close()
        with pytest.raises(ConfigError, match=r"'a' has no current dialog; call open\(alias\)"):
            agent.respond()
        assert agent.open("main").number == 3

    run(tmp_path, do)


def test_aliases_are_checked(tmp_path: Path) -> None:
    """An alias that is taken, or that nobody opened, is a ConfigError that names it."""

    def do(agent: Agent) -> None:
        agent.open("main")
        with pytest.raises(ConfigError, match="has a dialog 'main' already"):
            agent.open("main")
        with pytest.raises(ConfigError, match="has a dialog 'main' already"):
            agent.fork("main", "main")
        for wrong in (agent.switch, agent.close, lambda alias: agent.fork(alias, "x")):
            with pytest.raises(ConfigError, match="no dialog 'nope'; open are: main"):
                wrong("nope")

    events = run(tmp_path, do)
    assert [e.alias for e in events if isinstance(e, model.DialogOpened)] == ["main"]


def test_a_prompt_says_what_the_answer_must_look_like(tmp_path: Path) -> None:
    """The last prompt with a parser holds for the dialog and its forks, until another has one."""

    def parser(text: str) -> object:
        if not text.endswith("!"):
            raise ParseError("no !")
        return text.upper()

    def do(agent: Agent) -> None:
        agent.open("main")
        agent.receive_prompt(Prompt("p", "Say {what}", parser=parser), {"what": "x!"})
        assert agent.respond().parsed == "RE: SAY X!"
        agent.receive("again!")
        assert agent.respond().parsed == "RE: AGAIN!"
        agent.fork("main", "child")
        agent.receive("child!")
        assert agent.respond().parsed == "RE: CHILD!"
        agent.receive_prompt(Prompt("q", "len", parser=len))
        assert agent.respond().parsed == 7
        agent.open("fresh")
        agent.receive("plain")
        assert agent.respond().parsed is None

    run(tmp_path, do)


def test_a_task_of_any_kind_can_be_received(tmp_path: Path) -> None:
    """What is received and is not a text is said as JSON."""

    def do(agent: Agent) -> None:
        agent.open()
        agent.receive({"find": ["a", 1]})
        agent.receive(model.Limits(1, 2, 3))
        assert [text for _, text in said(agent)] == [
            '{"find":["a",1]}',
            '{"max_exception_retry":1,"max_llm_recall":2,"max_interrupt_steps":3}',
        ]

    run(tmp_path, do)


def test_agents_share_nothing(tmp_path: Path) -> None:
    """Each agent has dialogs of its own, under aliases of its own."""

    def do(self: Doing) -> object:
        for agent in self.agents.values():
            agent.open("main")
            agent.receive(f"for {agent.name}")
        return [agent.respond().content for agent in self.agents.values()]

    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        session = called(Doing(do, config(echo, "x", "y"), log_store=store))
        assert session.delivery == ["re: for x", "re: for y"]
        assert list(session.agent_sessions) == ["x", "y"]


def test_agents_of_different_models(tmp_path: Path) -> None:
    """Each agent asks its own model with its own parameters, which its definition says."""
    asked: list[tuple[str, object]] = []

    def script(request: Request) -> Reply:
        asked.append((request.model, request.params))
        return "ok"

    given = {
        "global": {
            "model_name": "m1", "invoker": ScriptedInvoker(script), "model_args": {"t": 1, "u": 2},
        },
        "agent_configs": [{"name": "x"}, {"name": "y", "model_name": "m2", "model_args": {"t": 3}}],
    }  # fmt: skip

    def do(self: Doing) -> None:
        for agent in self.agents.values():
            agent.open()
            agent.receive("?")
            agent.respond()

    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        called(Doing(do, given, log_store=store))
        assert asked == [("m1", {"t": 1, "u": 2}), ("m2", {"t": 3, "u": 2})]
        defined = [event for event in store.log.read() if event.type == "agent.defined"]
        assert len(defined) == 2
        assert b'"params":{"t":3,"u":2}' in defined[1].data
