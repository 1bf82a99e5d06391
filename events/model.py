"""Defines every event type: one frozen Struct each, whose docstring says when it is written.

A payload alone, with the events before it in its stream, says everything that a replay, an
auditor, a bill or a tracing span would ask. Ordinals (message, request, tool, call, dialog) count
from 1 within the session. Durations are nanoseconds of a monotonic clock; money is an integer of
nano-dollars. A field of type `object` holds JSON as it was given.

A text is written once, where it enters: `message.added`, `llm.responded`, `tool.returned` and
`tool.failed` are messages themselves. Since a dialog only grows, later events say what was sent by
the dialog and the ordinal of its last message, so a conversation of n turns costs O(n).

Changing an event means a new `version` and an upcaster in `codec`; a field that was once written
is never given another meaning.

gc=False: a payload is a tree of plain values, so the garbage collector has nothing to find in it,
and does not walk the thousands of payloads that a projection or a long session holds.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

# What SQLite holds, and what no amount of one call comes near: so that sums of them stay exact.
Number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Amount = Annotated[int, msgspec.Meta(ge=-(10**15), le=10**15)]

# The parts of a Price that are fees of tools that the provider ran, and no tokens.
TOOLS = ("web_search", "file_search", "social_search", "code_execution")

State = Literal["success", "failure", "running", "interrupted"]


class Part(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One piece of a message. A large binary is kept as a blob, named by its digest."""

    kind: str
    """As "text", "image", "audio", "file", "reasoning", "refusal"; else the provider's word."""
    text: str | None = None
    """The text of a piece that has one."""
    data: object = None
    """The piece as the provider has it, JSON, where its text does not say all of it."""
    blob: str | None = None
    """The name of the file beside the log that holds the content."""
    mime: str | None = None
    """The media type of the content, as "image/png"."""


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A model's request to run a tool."""

    id: str
    """The provider's id of this call, which the tool's answer names."""
    name: str
    """The tool that the model asks for, which need not exist."""
    arguments: str = ""
    """The arguments as the text that the model sent, whether it is valid JSON or not."""


class Content(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The content of one message."""

    role: str
    """One of "system", "user", "assistant" and "tool"."""
    parts: tuple[Part, ...] = ()
    """The pieces of the message, in order."""
    tool_calls: tuple[ToolCall, ...] = ()
    """The tools that an assistant's message asks for, in order."""
    call_id: str | None = None
    """The `id` of the tool call that a message of role "tool" answers."""

    @property
    def text(self) -> str:
        """The joined text parts, without images, reasoning and refusals."""
        return "".join(part.text or "" for part in self.parts if part.kind == "text")

    @classmethod
    def of(cls, role: str, text: str) -> Content:
        """Make a content of one text part, or of none if the text is empty.

        Args:
            role: Who speaks, as in the field `role`.
            text: What is said.
        """
        return cls(role, (Part("text", text),) if text else ())


class Error(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A recorded exception."""

    type: str
    """The name of the exception's class."""
    message: str
    """What the exception says, as `str` gives it."""
    traceback: str | None = None
    """Python's traceback, None where nobody raised the error in Python."""
    code: str | None = None
    """The provider's own word for the error, None where it sent none."""
    status: Number | None = None
    """The HTTP status, None where no answer came."""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The tokens that one attempt used, as far as the provider reported them."""

    input: Amount = 0
    """Tokens that went in, cached ones and cache writes included."""
    output: Amount = 0
    """Tokens that came out, reasoning included."""
    cache_read: Amount = 0
    """Tokens of `input` that were read from the provider's cache."""
    cache_write_5m: Amount = 0
    """Tokens of `input` that were written to the cache for 5 minutes."""
    cache_write_1h: Amount = 0
    """Tokens of `input` that were written to the cache for an hour."""
    reasoning: Amount = 0
    """Tokens of `output` that the model thought with."""
    audio_in: Amount = 0
    """Tokens of `input` that are audio."""
    audio_out: Amount = 0
    """Tokens of `output` that are audio."""


class Price(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The cost of one attempt, and the source of its price."""

    status: Literal["priced", "provider", "free", "unpriced"]
    """How the price is known: computed from rates, told by the provider, free, or not at all."""
    nanos: Amount | None = None
    """Nano-dollars, the sum of `parts`; None where the price is unknown, which is never zero."""
    parts: dict[str, Amount] = {}
    """Nano-dollars of each component, rounded half-even once.

    Components are input, cache_read, cache_write, output, audio_in, audio_out, image_in, image_out,
    video_in, video_out, citation, request, and the TOOLS.
    """
    rates: dict[str, str] = {}
    """US dollars for one token of each component, or for one use of a tool, as decimal text."""
    source: str | None = None
    """Where the rates come from, as the name of a price list."""
    source_version: str | None = None
    """The version of that source."""
    effective: str | None = None
    """The date from which the rates hold, YYYY-MM-DD, where the source says one."""
    reason: str | None = None
    """Why there is no price, why it is nothing, or what its rates take for granted."""
    recorded: Amount | None = None
    """Nano-dollars that an answer cost where it was first given, of a replay or a fork to which the
    log gave it again, for nothing; None for all others, and where nobody knew."""


class CostCell(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The sum of all attempts of one day, model and agent; it survives erasure."""

    day: str
    """The day in UTC, YYYY-MM-DD."""
    model: str
    """The model that was asked."""
    agent: str
    """The agent that asked, "" for none."""
    calls: Number
    """How many attempts there were."""
    unpriced: Number
    """How many of them have no known price."""
    nanos: Number
    """What the others cost, in nano-dollars."""
    usage: Usage
    """Their tokens, summed."""
    tool_nanos: Number = 0
    """The part of `nanos` that is fees of tools that the provider ran."""
    quarter: Number | None = None
    """The quarter of an hour that the attempts ended in, counted from 1970 in UTC."""
    failed: Number = 0
    """How many more attempts failed, beside `calls`."""
    wasted: Number = 0
    """The part of `nanos` whose answer was thrown away or never came whole."""


class Ancestor(msgspec.Struct, frozen=True, gc=False):
    """A session above this one."""

    session_id: str
    """Its id."""
    tactic_path: str
    """The tactic that it is a call of."""


class Origin(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The session that this one is a replay, a fork or an imported copy of."""

    session: str
    """Its id."""
    mode: Literal["replay", "fork", "import"]
    """Whether it was run again from the record, branched off, or brought in from elsewhere."""
    at: Number | None = None
    """The seq of the last event that both have in common, None for all of it."""


class Producer(msgspec.Struct, frozen=True, gc=False):
    """The versions of lllm and Python that wrote a session."""

    lllm: str
    """The version of lllm."""
    python: str
    """The version of Python."""


class ToolDefinition(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A tool as it is described to the model."""

    name: str
    """The name that the model calls it by."""
    description: str
    """What the model is told that it does."""
    schema: object
    """The JSON schema of its arguments."""
    strict: bool | None = None
    """Whether the provider must keep to the schema, None where that was not said."""


class Limits(msgspec.Struct, frozen=True, gc=False):
    """The maximum number of rounds in one respond(), for each reason."""

    max_exception_retry: Number
    """Answers that are asked for again because they don't parse."""
    max_llm_recall: Number
    """Calls that are made again because they failed."""
    max_interrupt_steps: Number
    """Turns of the model that may go to tools."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The base of all events: a type, and the version of its fields."""

    type: ClassVar[str]
    """The name of the event in the log, as "llm.responded"; never a Python path."""
    version: ClassVar[int] = 1
    """The version of the payload's fields."""


class SessionStarted(Event, frozen=True, kw_only=True):
    """A call of a tactic begins. This is the first event of its session's stream."""

    type: ClassVar[str] = "session.started"
    tactic_path: str
    """The tactic's stable path, "package::name"."""
    name: str
    """The tactic's short name."""
    kind: str = "tactic"
    """A "tactic"'s call, a "session" of `store.session`, or a "call" that was captured."""
    partition: str = ""
    """The part of the store that the session belongs to, "" for the plain one."""
    task: object = None
    """What the tactic was called with."""
    options: object = None
    """The keyword arguments of the call beside its task."""
    tags: dict[str, str] = {}
    """The tags that the call was given."""
    metadata: object = None
    """The metadata that the call was given."""
    ancestors: tuple[Ancestor, ...] = ()
    """The sessions above this one, root first; empty for a root."""
    parent_tool: Number | None = None
    """The number of the tool call in the parent that this session was begun in, None for none."""
    ordinal: Number | None = None
    """Which child of its parent it is, from 1; None for a root, or where nobody counted."""
    origin: Origin | None = None
    """The session that this one was made from, None for most."""
    owner: str = ""
    """The name of the lock that is held as long as the writing process lives."""
    host: str = ""
    """The machine on which that lock can be tried."""
    pid: Number = 0
    """The number of the writing process."""
    producer: Producer | None = None
    """The versions of the software that writes the session."""
    traceparent: str | None = None
    """The W3C trace context that it belongs to (https://www.w3.org/TR/trace-context/)."""
    budget: Number | None = None
    """Nano-dollars that it may spend on models, None where it has no limit of its own."""
    salt: bytes
    """32 random bytes that the commitments of the whole stream are made with."""


class SessionSucceeded(Event, frozen=True, kw_only=True):
    """A call of a tactic returns. This is the last event of its session's stream."""

    type: ClassVar[str] = "session.succeeded"
    delivery: object = None
    """What the call returned, JSON."""
    elapsed: Number
    """Nanoseconds from the start to the end."""
    events: Number | None = None
    """How many events of the session stand before this one; None where an earlier lllm wrote it."""
    root: bytes | None = None
    """The root of the RFC 6962 tree over the digests of those, in order; None as with `events`."""


class SessionFailed(Event, frozen=True, kw_only=True):
    """A tactic call raises, or is cancelled or interrupted. Last in its session's stream."""

    type: ClassVar[str] = "session.failed"
    error: Error
    """What was raised."""
    cancelled: bool = False
    """Whether the call was cancelled or interrupted, rather than wrong."""
    elapsed: Number
    """Nanoseconds from the start to the end."""
    delivery: object = None
    """What it had delivered by then, JSON."""
    events: Number | None = None
    """How many events of the session stand before this one; None where an earlier lllm wrote it."""
    root: bytes | None = None
    """The root of the RFC 6962 tree over the digests of those, in order; None as with `events`."""


class SessionInterrupted(Event, frozen=True, kw_only=True):
    """A session's process was found dead. A later event of the session overrides this."""

    type: ClassVar[str] = "session.interrupted"
    about: str
    """The id of the session."""
    owner: str
    """The lock that was found free."""
    last_seq: Number
    """The seq of the session's last event when it was found."""
    salt: bytes
    """The salt of this statement's own stream."""


class SessionTagged(Event, frozen=True, kw_only=True):
    """Tags of a session are added, changed or removed after it began."""

    type: ClassVar[str] = "session.tagged"
    about: str
    """The id of the session."""
    set: dict[str, str] = {}
    """The tags that are added or changed, with their new values."""
    removed: tuple[str, ...] = ()
    """The names of the tags that are removed."""
    by: str | None = None
    """Who did it, None where that was not said."""
    salt: bytes
    """The salt of this statement's own stream."""


class SessionHeld(Event, frozen=True, kw_only=True):
    """A legal hold: until it is released, nothing of the session can be erased."""

    type: ClassVar[str] = "session.held"
    about: str
    """The id of the session."""
    by: str
    """Who placed the hold."""
    reason: str
    """Why, as the name of a case."""
    salt: bytes
    """The salt of this statement's own stream."""


class SessionReleased(Event, frozen=True, kw_only=True):
    """A legal hold is lifted."""

    type: ClassVar[str] = "session.released"
    about: str
    """The id of the session."""
    hold: str | None = None
    """The stream of the one hold that is lifted, None for all that the session has."""
    by: str
    """Who lifted it."""
    reason: str
    """Why."""
    salt: bytes
    """The salt of this statement's own stream."""


class SessionErased(Event, frozen=True, kw_only=True):
    """A session's payloads were erased on purpose; its list row and costs remain.

    Every field of it stays in the log. It is written before the payloads go, so whoever finds it
    beside payloads of the session finishes what was begun.
    """

    type: ClassVar[str] = "session.erased"
    about: str
    """The id of the session."""
    by: str
    """Who erased it."""
    reason: str
    """Why it was erased."""
    events: Number
    """How many payloads were erased."""
    tactic_path: str
    """The tactic that the session was a call of."""
    state: State
    """How the session had ended."""
    started: Number
    """When it began, nanoseconds UTC."""
    ended: Number | None = None
    """When it ended, nanoseconds UTC; None where it has no end."""
    cost: tuple[CostCell, ...] = ()
    """What it cost without the sessions below it, by quarter of an hour, model and agent."""
    name: str = ""
    """The tactic's short name."""
    kind: str = "tactic"
    """What it was, as its SessionStarted said."""
    partition: str = ""
    """The part of the store that it belongs to."""
    elapsed: Number | None = None
    """Nanoseconds from its start to its end, None where it has no end."""
    ancestors: tuple[Ancestor, ...] = ()
    """The sessions above it, root first; they are erased as well."""
    ordinal: Number | None = None
    """Which child of its parent it was, from 1."""
    origin: Origin | None = None
    """The session that it was made from."""
    digests: str | None = None
    """The RFC 6962 root over the digests of its events in their order, as hex."""
    streams: tuple[str, ...] = ()
    """The other streams whose payloads went with it: statements about it, and definitions that no
    other session uses."""
    salt: bytes
    """The salt of this statement's own stream."""


class AgentDefined(Event, frozen=True, kw_only=True):
    """The definition of an agent, written once for each log when it is first used.

    Its stream is named by the digest of its content.
    """

    type: ClassVar[str] = "agent.defined"
    name: str
    """The agent's name."""
    system: str
    """Its system prompt."""
    prompts: tuple[str, ...] = ()
    """The paths of its other prompts."""
    provider: str | None = None
    """The provider that is asked, None where the invoker decides."""
    model: str
    """The model that is asked."""
    params: object = None
    """The parameters of each call, JSON."""
    tools: tuple[ToolDefinition, ...] = ()
    """The tools that the model is told of."""
    output_schema: object = None
    """The JSON schema that answers must fit, None for free text."""


class AgentStarted(Event, frozen=True, kw_only=True):
    """`agent.respond()` is called."""

    type: ClassVar[str] = "agent.started"
    call: Number
    """The number of this agent call in the session."""
    agent: str
    """The agent's name."""
    definition: str
    """The stream of its AgentDefined."""
    dialog: Number
    """The number of the dialog that it answers in."""
    ordinal: Number
    """Which call of this agent in the session it is, from 1."""
    limits: Limits
    """How often it may go round."""
    parent_tool: Number | None = None
    """The tool of this session that it is called from; None where no tool is."""


class AgentSucceeded(Event, frozen=True, kw_only=True):
    """`agent.respond()` returns an answer."""

    type: ClassVar[str] = "agent.succeeded"
    call: Number
    """The number of the agent call."""
    answer: Number
    """The number of the message that it delivers."""
    parsed: object = None
    """What the prompt's parser made of the answer, JSON."""
    elapsed: Number
    """Nanoseconds from the start of the call to its end."""


class AgentFailed(Event, frozen=True, kw_only=True):
    """`agent.respond()` raises."""

    type: ClassVar[str] = "agent.failed"
    call: Number
    """The number of the agent call."""
    error: Error
    """What was raised."""
    cancelled: bool = False
    """Whether the call was cancelled or interrupted, rather than wrong."""
    elapsed: Number
    """Nanoseconds from the start of the call to its end."""


class DialogOpened(Event, frozen=True, kw_only=True):
    """A dialog begins: empty, or as a copy of the first messages of another."""

    type: ClassVar[str] = "dialog.opened"
    dialog: Number
    """The number of the dialog in the session."""
    agent: str
    """The agent that it belongs to."""
    alias: str
    """The name that the tactic gave it."""
    parent: Number | None = None
    """The number of the dialog that it is a copy of, None for an empty one."""
    upto: Number | None = None
    """The number of the last message that it has from the parent."""


class MessageAdded(Event, frozen=True, kw_only=True):
    """A message is added to a dialog, unless another event already carries it."""

    type: ClassVar[str] = "message.added"
    message: Number
    """The number of the message in the session."""
    dialog: Number
    """The number of the dialog that it enters."""
    content: Content
    """What it says."""
    why: str
    """Who added it: "system", "user", "retry" (what was wrong with an answer), "limit", or "edit"
    (the change that a fork makes, and what it brings along to another dialog)."""
    prompt: str | None = None
    """The path of the prompt that it was made of, None for a text as it is."""
    prompt_args: object = None
    """What was filled into that prompt, JSON."""


class SessionEdited(Event, frozen=True, kw_only=True):
    """A fork changes something; what follows is no longer as in the session that it is made from.

    Only what is changed is said. A changed message enters the dialog by a `message.added`, and a
    changed result of a tool by its `tool.returned`.
    """

    type: ClassVar[str] = "session.edited"
    call: Number
    """The number of the agent call in which it happens."""
    step: Number
    """The turn of the model that is the first with the change, from 1."""
    attempt: Number = 1
    """The try of that turn, from 1."""
    message: str | None = None
    """The new text of the user's message that is answered there."""
    tool: Number | None = None
    """The number of the tool whose result is another one."""
    model: str | None = None
    """The model that the agent asks from there on."""
    params: object = None
    """The parameters that it sends otherwise from there on, JSON."""
    prompt: str | None = None
    """The text of its system prompt from there on."""


class LLMRequested(Event, frozen=True, kw_only=True):
    """One attempt to call a model begins."""

    type: ClassVar[str] = "llm.requested"
    request: Number
    """The number of the attempt in the session."""
    call: Number | None = None
    """The number of the agent call that it belongs to, None for a call that was captured."""
    step: Number
    """Which turn of the model within the agent call it is, from 1."""
    attempt: Number
    """Which try of that turn it is, from 1."""
    operation: str = "chat"
    """What is asked for, as "chat", "responses" or "embeddings"."""
    provider: str
    """Who is asked, as "openai"."""
    api: str
    """The form of the request, as "chat.completions"."""
    host: str | None = None
    """The host that is asked, None where the invoker does not say."""
    port: Number | None = None
    """Its port, None for the usual one."""
    region: str | None = None
    """The provider's region, where the path of the address names it."""
    model: str
    """The model that is asked."""
    dialog: Number | None = None
    """The number of the dialog whose messages are sent."""
    upto: Number | None = None
    """The number of the last message of the dialog that is sent."""
    definition: str | None = None
    """The stream of the AgentDefined that says which tools and parameters go with it."""
    params: object = None
    """Parameters of this attempt, JSON; they override those of the definition."""
    tool_choice: str | None = None
    """Which tool the model must call, or "auto" or "none"; None where nothing was said."""
    stream: bool = False
    """Whether the answer comes in pieces."""
    service_tier: str | None = None
    """The service tier that is asked for, None for the plain one."""
    media: tuple[str, ...] = ()
    """The kinds (audio, image, video) that are sent, or may be."""
    digest: str
    """HMAC-SHA-256 of all that is asked, under the session's salt, as hex."""


class LLMResponded(Event, frozen=True, kw_only=True):
    """A model answered an attempt.

    A bill needs no other event: the model that was asked and the agent that did are said here, too.
    """

    type: ClassVar[str] = "llm.responded"
    request: Number
    """The number of the attempt."""
    message: Number
    """The number of the message that the answer is."""
    content: Content
    """What the model said."""
    finish: str
    """Why it stopped: "stop", "tool_calls", "length", "content_filter" or "other"."""
    finish_raw: str | None = None
    """The same in the provider's own word."""
    agent: str = ""
    """The agent that asked, "" for none."""
    asked: str
    """The model that was asked."""
    model: str
    """The model that answered, by the provider's name for it."""
    response_id: str | None = None
    """The provider's id of the answer."""
    request_id: str | None = None
    """The provider's id of the HTTP request, for its support."""
    service_tier: str | None = None
    """The service tier that the provider says it answered in."""
    fingerprint: str | None = None
    """The provider's mark of the system that answered."""
    usage_raw: object = None
    """The usage as the provider sent it, JSON."""
    usage: Usage | None = None
    """The tokens of it, None where the provider sent no usage that can be read."""
    price: Price
    """What the attempt cost."""
    elapsed: Number
    """Nanoseconds from the request to the end of the answer."""
    first_token: Number | None = None
    """Nanoseconds from the request to the first piece of a stream, None for an answer at once."""


class LLMFailed(Event, frozen=True, kw_only=True):
    """One attempt to call a model failed."""

    type: ClassVar[str] = "llm.failed"
    request: Number
    """The number of the attempt."""
    agent: str = ""
    """The agent that asked, "" for none."""
    asked: str
    """The model that was asked."""
    error: Error
    """What went wrong."""
    cancelled: bool = False
    """Whether the attempt was cancelled or interrupted, rather than refused."""
    request_id: str | None = None
    """The provider's id of the HTTP request, for its support."""
    retry_after: Number | None = None
    """Nanoseconds that the provider asked to wait, None where it did not say."""
    partial: Content | None = None
    """What had come of the answer, None for nothing."""
    model: str | None = None
    """The model that answered, where anything of an answer said it."""
    service_tier: str | None = None
    """The service tier of the answer, where anything of it said it."""
    unfinished: bool = False
    """Whether an answer was cut off, so that `usage` is not the last word."""
    usage_raw: object = None
    """The usage as the provider had sent it by then, JSON."""
    usage: Usage | None = None
    """The tokens of it, None where no usage came."""
    price: Price | None = None
    """What the attempt cost, None where there is nothing to say of it."""
    elapsed: Number
    """Nanoseconds from the request to the failure."""


class LLMRefused(Event, frozen=True, kw_only=True):
    """An answer was rejected: it did not parse, or asked for tools when none were allowed.

    What it cost stays in the bill, and counts as wasted.
    """

    type: ClassVar[str] = "llm.refused"
    request: Number
    """The number of the attempt."""
    agent: str = ""
    """The agent that asked, as its LLMResponded says."""
    asked: str
    """The model that was asked, as its LLMResponded says."""
    cost: Amount | None = None
    """What the answer cost, in nano-dollars; None where nobody knows."""
    reason: str
    """What was wrong with it."""


class ToolCalled(Event, frozen=True, kw_only=True):
    """A tool that an answer asked for is about to run."""

    type: ClassVar[str] = "tool.called"
    tool: Number
    """The number of this tool call in the session."""
    request: Number
    """The number of the attempt whose answer asked for it."""
    call_id: str
    """The provider's id of the call."""
    name: str
    """The tool that was asked for."""
    arguments: object = None
    """The arguments as parsed; None where the text that the model sent is not valid JSON."""


class ToolReturned(Event, frozen=True, kw_only=True):
    """A tool returned; its result is sent to the model."""

    type: ClassVar[str] = "tool.returned"
    tool: Number
    """The number of the tool call."""
    message: Number
    """The number of the message that the result is."""
    content: Content
    """The message that the model gets."""
    value: object = None
    """What was returned, JSON, where that is more than its text."""
    repeats: Number | None = None
    """The number of the earlier tool call whose result stands for this one, None for none."""
    elapsed: Number
    """Nanoseconds that the tool ran."""


class ToolFailed(Event, frozen=True, kw_only=True):
    """A tool raised, or its name or arguments were wrong."""

    type: ClassVar[str] = "tool.failed"
    tool: Number
    """The number of the tool call."""
    message: Number
    """The number of the message that tells the model."""
    content: Content
    """What the model is told."""
    error: Error
    """What went wrong."""
    elapsed: Number
    """Nanoseconds that the tool ran."""


DrawnKind = Literal["now", "uuid4", "random"]


class ValueDrawn(Event, frozen=True, kw_only=True):
    """The program drew a time, an id or a random number; a replay gives it the same one."""

    type: ClassVar[str] = "value.drawn"
    kind: DrawnKind
    """The function of lllm that it called: now, uuid4 or random."""
    value: str | float
    """A time in ISO 8601 with its offset, an id in hex with dashes, or a number from 0 to 1."""
    tool: Number | None = None
    """The number of the tool call in which it was drawn, None outside of tools."""


class RetryScheduled(Event, frozen=True, kw_only=True):
    """The model is about to be asked again: its answer was invalid, or the API failed."""

    type: ClassVar[str] = "retry.scheduled"
    call: Number
    """The number of the agent call."""
    request: Number
    """The number of the attempt that was in vain."""
    kind: Literal["exception", "llm_recall"]
    """Why: an "exception" where an answer did not parse or validate, "llm_recall" for the API."""
    attempt: Number
    """Which retry of this kind it is, from 1."""
    limit: Number
    """How many there may be."""
    wait: Number = 0
    """Nanoseconds before the next attempt."""
    reason: str
    """What was wrong."""


class ErrorRecorded(Event, frozen=True, kw_only=True):
    """An error outside of any session, given to `save_error`."""

    type: ClassVar[str] = "error.recorded"
    error: Error
    """What went wrong."""
    context: object = None
    """What the caller says of it, JSON."""
    partition: str = ""
    """The part of the store that it belongs to, "" for the plain one."""
    salt: bytes
    """The salt of this statement's own stream."""


class LogGap(Event, frozen=True, kw_only=True):
    """Some events could not be written; this event counts them."""

    type: ClassVar[str] = "log.gap"
    lost: Number
    """How many were lost."""
    first_time: Number
    """The time of the first of them, nanoseconds UTC."""
    last_time: Number
    """The time of the last of them, nanoseconds UTC."""
    reason: str
    """Why they could not be written."""
    salt: bytes
    """The salt of this statement's own stream."""


class Unknown(Event, frozen=True, kw_only=True):
    """An event that this version of lllm can't read: its type, version or payload is unknown.

    It is never written; it is kept, counted and shown.
    """

    type: ClassVar[str] = "unknown"
    was: str
    """The type that the log says."""
    was_version: Number
    """The version that the log says."""
    raw: object = None
    """The payload as JSON values, None where it is no JSON."""
    reason: str = ""
    """Why it could not be read as what it says it is."""


class Erased(Event, frozen=True, kw_only=True):
    """An event whose payload was erased on purpose.

    It is never written. Its envelope, its digest and this commitment stay in the log, so that its
    type and time can still be checked.
    """

    type: ClassVar[str] = "erased"
    was: str
    """The type that the log says."""
    was_version: Number
    """The version that the log says."""
    commitment: str
    """HMAC-SHA-256 of the payload under the salt, which is gone, too; as hex."""


EVENTS: dict[str, type[Event]] = {
    kind.type: kind
    for kind in (
        SessionStarted, SessionSucceeded, SessionFailed, SessionInterrupted, SessionTagged,
        SessionHeld, SessionReleased, SessionErased, AgentDefined, AgentStarted, AgentSucceeded,
        AgentFailed, DialogOpened, MessageAdded, SessionEdited, LLMRequested, LLMResponded,
        LLMFailed, LLMRefused, ToolCalled, ToolReturned, ToolFailed, ValueDrawn, RetryScheduled,
        ErrorRecorded, LogGap,
    )
}  # fmt: skip
