"""Works with a model and exports spans of it, in an environment that has a real producer of spans.

    python producer_program.py NAME URL_OF_THE_MODEL URL_OF_THE_RECEIVER

It does not import lllm, and runs with the packages of producers.txt.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

NAME, MODEL, RECEIVER = sys.argv[1:]
provider = TracerProvider(resource=Resource.create({"service.name": NAME}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{RECEIVER}/v1/traces")))
trace.set_tracer_provider(provider)
ASKED = "How many people live in Berlin?"
TOOL = {
    "type": "function",
    "function": {
        "name": "population",
        "description": "The population of a city, in millions.",
        "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
        },
    },
}  # fmt: skip


def work_with_openai() -> None:
    """A tool turn, an answer, a stream with usage, and a failure."""
    from openai import BadRequestError, OpenAI

    client = OpenAI(base_url=f"{MODEL}/v1", api_key="k", max_retries=0)
    messages: list[object] = [{"role": "system", "content": "Answer."},
                              {"role": "user", "content": ASKED}]  # fmt: skip
    with trace.get_tracer("app").start_as_current_span("run"):
        create = client.chat.completions.create
        first = create(model="gpt-4o-mini", messages=messages, tools=[TOOL])  # type: ignore
        call = first.choices[0].message.tool_calls[0]
        messages += [
            first.choices[0].message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "3.7"},
        ]
        create(model="gpt-4o-mini", messages=messages, tools=[TOOL])  # type: ignore
        stream = create(
            model="gpt-4o-mini", messages=messages[:2], stream=True,
            stream_options={"include_usage": True},
        )  # type: ignore # fmt: skip
        list(stream)
        with suppress(BadRequestError):
            create(model="gpt-4o-mini", messages=[{"role": "user", "content": "fail"}])


def genai_openai() -> None:
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()
    work_with_openai()


def openinference_openai() -> None:
    from openinference.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=provider)
    work_with_openai()


def work_with_pydantic_ai() -> None:
    from openai import AsyncOpenAI
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    Agent.instrument_all()
    client = AsyncOpenAI(base_url=f"{MODEL}/v1", api_key="k", max_retries=0)
    model = OpenAIChatModel("gpt-4o-mini", provider=OpenAIProvider(openai_client=client))
    agent = Agent(model, name="asker", system_prompt="Answer.")

    @agent.tool_plain
    def population(city: str) -> float:  # noqa: ARG001
        """The population of a city, in millions."""
        return 3.7

    agent.run_sync(ASKED)


def pydantic_ai_twice() -> None:
    """Its own spans, and those of the instrumentation of the client below."""
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()
    work_with_pydantic_ai()


def anthropic_sdk() -> None:
    """The SDK makes spans by itself."""
    from anthropic import Anthropic

    client = Anthropic(base_url=MODEL, api_key="k", max_retries=0)
    with trace.get_tracer("app").start_as_current_span("run"):
        sent = [{"role": "user", "content": ASKED}]
        client.messages.create(model="claude-haiku-4-5", max_tokens=100, messages=sent)  # type: ignore
        with client.messages.stream(
            model="claude-haiku-4-5",
            max_tokens=100,
            messages=sent,  # type: ignore
        ) as stream:
            stream.until_done()


def openinference_anthropic() -> None:
    from openinference.instrumentation.anthropic import AnthropicInstrumentor

    AnthropicInstrumentor().instrument(tracer_provider=provider)
    anthropic_sdk()


def work_with_langchain() -> None:
    from langchain.agents import create_agent
    from langchain_openai import ChatOpenAI

    def population(city: str) -> str:  # noqa: ARG001
        """The population of a city, in millions."""
        return "3.7"

    model = ChatOpenAI(
        model="gpt-4o-mini", base_url=f"{MODEL}/v1", api_key="k", max_retries=0
    )  # type: ignore # fmt: skip
    agent = create_agent(model, [population], system_prompt="Answer.", name="asker")
    agent.invoke({"messages": [{"role": "user", "content": ASKED}]})


def openinference_langchain() -> None:
    from openinference.instrumentation.langchain import LangChainInstrumentor

    LangChainInstrumentor().instrument(tracer_provider=provider)
    work_with_langchain()


def openllmetry_langchain() -> None:
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor

    LangchainInstrumentor().instrument()
    work_with_langchain()


def langchain_twice() -> None:
    """OpenInference does not set the current context: the client's spans are other traces."""
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()
    openinference_langchain()


def openinference_google() -> None:
    from google import genai
    from openinference.instrumentation.google_genai import GoogleGenAIInstrumentor

    GoogleGenAIInstrumentor().instrument(tracer_provider=provider)
    options = genai.types.HttpOptions(base_url=MODEL)
    client = genai.Client(api_key="k", http_options=options)
    client.models.generate_content(model="gemini-2.5-flash", contents=ASKED)


PRODUCERS: dict[str, Callable[[], None]] = {
    one.__name__: one
    for one in (
        genai_openai, openinference_openai, work_with_pydantic_ai, pydantic_ai_twice,
        anthropic_sdk, openinference_anthropic, openinference_langchain, openllmetry_langchain,
        langchain_twice, openinference_google,
    )
}  # fmt: skip
PRODUCERS[NAME]()
provider.shutdown()
