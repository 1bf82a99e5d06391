"""The scripted invoker: deterministic answers inside the process."""

from __future__ import annotations

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from lllm.events.errors import ConfigError, InvokeError
from lllm.events.model import Content, ToolCall, ToolDefinition, Usage
from lllm.invokers import Answer, Invoker, Request
from lllm.invokers.invoker_by_name import named
from lllm.invokers.scripted import (
    Reply,
    ScriptedInvoker,
    bad_request,
    rate_limited,
    reply,
    server_error,
    timed_out,
    tool_call,
    tool_calls,
)


def ask(said: str = "Hi", *, agent: str = "writer") -> Request:
    return Request(model="gpt-4o-mini", messages=(Content.of("user", said),), agent=agent)


def test_it_is_an_invoker() -> None:
    """A scripted invoker is an Invoker, embedded, with no host or port."""
    invoker = ScriptedInvoker(["x"])
    assert isinstance(invoker, Invoker)
    assert (invoker.provider, invoker.host, invoker.port) == ("scripted", None, None)


def test_replies_come_in_order() -> None:
    """A list of texts is answered one after the other, by the model that was asked."""
    invoker = ScriptedInvoker(["one", "two"])
    answers = [invoker.invoke(ask()) for _ in range(2)]
    assert [answer.content.text for answer in answers] == ["one", "two"]
    assert {answer.model for answer in answers} == {"gpt-4o-mini"}
    assert {answer.finish for answer in answers} == {"stop"}


def test_sync_and_async_read_the_same_script() -> None:
    """invoke and ainvoke take from one script and answer alike."""
    mixed = ScriptedInvoker(["one", "two"], delay=0.001)
    first = mixed.invoke(ask())
    second = asyncio.run(mixed.ainvoke(ask()))
    assert (first.content.text, second.content.text) == ("one", "two")
    assert asyncio.run(ScriptedInvoker(["one"]).ainvoke(ask())) == first


def test_each_agent_has_its_replies() -> None:
    """A dict gives each agent its own list, whatever the others take."""
    invoker = ScriptedInvoker({"writer": ["w1", "w2"], "reader": ["r1"]})
    said = [invoker.invoke(ask(agent=agent)).content.text for agent in ("writer", "reader")]
    assert said == ["w1", "r1"]
    assert invoker.invoke(ask()).content.text == "w2"
    with pytest.raises(InvokeError, match=r"no replies for agent 'critic'.*'writer', 'reader'"):
        invoker.invoke(ask(agent="critic"))


def test_a_function_may_be_the_script() -> None:
    """A function gets the request and returns any reply."""
    invoker = ScriptedInvoker(lambda request: request.messages[-1].text.upper())
    assert invoker.invoke(ask("loud")).content.text == "LOUD"


def test_tool_calls_are_answers() -> None:
    """A reply may be one tool call or several; ids count through the conversation."""
    script: list[Reply] = [
        tool_call("look", {"key": "a"}),
        tool_calls(tool_call("look"), tool_call("put", "{broken"), text="Both."),
        [tool_call("look", call_id="mine")],
    ]
    invoker = ScriptedInvoker(script)
    first = invoker.invoke(ask())
    assert first.content.tool_calls == (ToolCall("call_1", "look", '{"key": "a"}'),)
    assert first.finish == "tool_calls"
    later = Request(model="m", messages=(first.content, Content.of("user", "go on")))
    second = invoker.invoke(later)
    assert second.content.text == "Both."
    assert [(c.id, c.arguments) for c in second.content.tool_calls] == [
        ("call_2", "{}"),
        ("call_3", "{broken"),
    ]
    assert invoker.invoke(later).content.tool_calls[0].id == "mine"


def test_failures_are_raised() -> None:
    """An exception in the script is raised, and the makers tell what it stands for."""
    boom = ZeroDivisionError("boom")
    invoker = ScriptedInvoker(
        [rate_limited(0.05), server_error(503), timed_out(), bad_request(), boom]
    )
    met = []
    for _ in range(4):
        with pytest.raises(InvokeError) as caught:
            invoker.invoke(ask())
        error = caught.value
        met.append((error.retryable, error.status, error.retry_after))
    assert met == [
        (True, 429, 50_000_000),
        (True, 503, None),
        (True, None, None),
        (False, 400, None),
    ]
    with pytest.raises(ZeroDivisionError, match="boom"):
        invoker.invoke(ask())


def test_a_repeated_exception_has_a_fresh_traceback() -> None:
    """The same exception named twice does not collect the tracebacks of both raises."""
    invoker = ScriptedInvoker([server_error()] * 2)
    lengths = []
    for _ in range(2):
        with pytest.raises(InvokeError) as caught:
            invoker.invoke(ask())
        lengths.append(len(caught.traceback))
    assert lengths[0] == lengths[1]


def test_a_whole_answer_is_passed_on() -> None:
    """An Answer in the script is given as it is."""
    whole = Answer(Content.of("assistant", "x"), "length", "other-model", response_id="r1")
    assert ScriptedInvoker([whole]).invoke(ask()) is whole


def test_usage_is_estimated_by_characters() -> None:
    """A token is reckoned as four characters, begun ones whole, of messages and tools."""
    tool = ToolDefinition("look", "Looks.", {})  # 4 + 6 + 2 characters
    request = Request("m", (Content.of("user", "12345"),), tools=(tool,))
    answer = ScriptedInvoker(["123456789"]).invoke(request)
    assert answer.usage == Usage(input=5, output=3)


def test_a_reply_may_decide_usage_and_model() -> None:
    """`reply` sets the usage, also to none, the model and the finish."""
    given = Usage(input=7, output=1)
    script = [reply("a", usage=given, model="gpt-5", finish="length"), reply("b", usage=None)]
    invoker = ScriptedInvoker(script)
    first = invoker.invoke(ask())
    assert (first.usage, first.model, first.finish) == (given, "gpt-5", "length")
    assert invoker.invoke(ask()).usage is None


def test_a_script_that_is_used_up_says_so() -> None:
    """Asking for more than there is tells how many replies there were and what was asked."""
    invoker = ScriptedInvoker(["one"])
    invoker.invoke(ask())
    with pytest.raises(
        InvokeError, match=r"with 1 replies given.*'writer'.*'gpt-4o-mini'.*'More'"
    ) as e:
        invoker.invoke(ask("More"))
    assert not e.value.retryable


def test_threads_share_a_script() -> None:
    """Every reply is given exactly once, whatever number of threads asks."""
    replies = [str(number) for number in range(400)]
    invoker = ScriptedInvoker(replies)
    with ThreadPoolExecutor(16) as pool:
        said = list(pool.map(lambda _: invoker.invoke(ask()).content.text, range(400)))
    assert sorted(said) == sorted(replies)


def test_it_travels_to_another_process() -> None:
    """A pickled scripted invoker goes on where it stood."""
    invoker = ScriptedInvoker(["one", "two"])
    invoker.invoke(ask())
    assert pickle.loads(pickle.dumps(invoker)).invoke(ask()).content.text == "two"


@pytest.mark.parametrize("script", ["text", [1], {"a": "text"}, {"a": [[]]}, 7])
def test_a_wrong_script_is_a_clear_error(script: object) -> None:
    """What is no script is refused when the invoker is made."""
    with pytest.raises(ConfigError, match=r"script"):
        ScriptedInvoker(script)  # type: ignore[arg-type] # that it is wrong is the point


def test_invokers_by_name() -> None:
    """`named` makes the invoker of a configuration, and says what it can't make and why."""
    assert named("openai").api == "chat.completions"
    with pytest.raises(ConfigError, match="needs its script"):
        named("scripted")
    with pytest.raises(ConfigError, match=r"no invoker 'opnai'.*'openai'"):
        named("opnai")


def test_what_was_asked_is_shown_up_to_80_characters() -> None:
    """A message of 80 is shown whole, and of a longer one the beginning."""
    for said, shown in (("a" * 80, "a" * 80), ("a" * 81, "a" * 79 + "…")):
        with pytest.raises(InvokeError, match=f"last message {shown!r}"):
            ScriptedInvoker([]).invoke(ask(said))


@pytest.mark.parametrize("text", ["", " ", "\n\n", " a", "a ", "a  b\n"])
def test_a_stream_has_the_whole_text(text: str) -> None:
    """Its pieces joined are the answer, blank or not."""
    told: list[str] = []
    request = Request(model="gpt-4o-mini", messages=(Content.of("user", "?"),))
    answer = ScriptedInvoker([text]).stream(request, told.append)
    assert "".join(told) == answer.content.text == text
