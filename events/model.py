"""Defines every event type: one frozen Struct each, whose docstring says when it is written.

A payload, together with the earlier events of its stream, contains everything that a replay, an
audit, a bill or a tracing span needs. Ordinals (message, request, tool, call, dialog) count from 1
within the session. Durations are nanoseconds of a monotonic clock; money is an integer of
nano-dollars. A field of type `object` holds JSON as it was given.

Each text is written once, in the event that brings it into the session: `message.added`,
`llm.responded`, `tool.returned` and `tool.failed` carry messages. A dialog only grows, so a later
request names the dialog and the ordinal of the last message that was sent. A conversation of n
turns therefore takes O(n) bytes and not O(n²).

Changing an event means a new `version` and an upcaster in `codec`; a field that was once written
is never given another meaning.

The Structs have gc=False: a payload is a tree of plain values without cycles, so the garbage
collector need not visit the thousands of payloads that a projection or a long session holds.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

# What SQLite can hold; and for amounts a limit so low that their sums stay exact in SQLite.
Number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Amount = Annotated[int, msgspec.Meta(ge=-(10**15), le=10**15)]

# The components of a Price that are fees for tools that the provider ran, not for tokens.
TOOLS = ("web_search", "file_search", "social_search", "code_execution")

State = Literal["success", "failure", "running", "interrupted"]


class Part(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One piece of a message. A large binary is kept as a blob, named by its digest."""

    kind: str
    """The kind: "text", "image", "audio", "file", "reasoning", "refusal" or the provider's name."""
    text: str | None = None
    """The text of the part; None for a part without text, such as an image."""
    data: object = None
    """The part as the provider sent it, as JSON; None if `text` says all of it."""
    blob: str | None = None
    """The name of the file beside the log that holds the content; None if there is no such file."""
    mime: str | None = None
    """The media type of the content, as "image/png"; None if it is unknown."""


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A model's request to run a tool."""

    id: str
    """The provider's id of this call; the message with the tool's result repeats it."""
    name: str
    """The name of the tool that the model asks for; a tool of this name may not exist."""
    arguments: str = ""
    """The arguments exactly as the model sent them; this text may not be valid JSON."""


class Content(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The content of one message."""

    role: str
    """One of "system", "user", "assistant" and "tool"."""
    parts: tuple[Part, ...] = ()
    """The pieces of the message, in order."""
    tool_calls: tuple[ToolCall, ...] = ()
    """The tools that an assistant's message asks to run, in order."""
    call_id: str | None = None
    """In a message of role "tool": the `id` of the tool call that it answers. Otherwise None."""

    @property
    def text(self) -> str:
        """The text parts of the message, joined; images, reasoning and refusals are left out."""
        return "".join(part.text or "" for part in self.parts if part.kind == "text")

    @classmethod
    def of(cls, role: str, text: str) -> Content:
        """Make a content with one text part, or with no part if the text is empty.

        Args:
            role: The role of the message, as in the field `role`.
            text: The text of the message.

        Returns:
            The content.
        """
        return cls(role, (Part("text", text),) if text else ())


class Error(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An exception, in the form in which events record it."""

    type: str
    """The name of the exception's class."""
    message: str
    """The text of the exception, as `str` gives it."""
    traceback: str | None = None
    """Python's traceback; None if the error was not raised in Python."""
    code: str | None = None
    """The provider's error code; None if it sent none."""
    status: Number | None = None
    """The HTTP status code; None if no HTTP response came."""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The tokens that one attempt used, as far as the provider reported them."""

    input: Amount = 0
    """All input tokens, including those read from or written to the cache."""
    output: Amount = 0
    """All output tokens, including reasoning."""
    cache_read: Amount = 0
    """Tokens of `input` that were read from the provider's cache."""
    cache_write_5m: Amount = 0
    """Tokens of `input` that were written to the cache for 5 minutes."""
    cache_write_1h: Amount = 0
    """Tokens of `input` that were written to the cache for an hour."""
    reasoning: Amount = 0
    """Tokens of `output` that are the model's reasoning."""
    audio_in: Amount = 0
    """Tokens of `input` that are audio."""
    audio_out: Amount = 0
    """Tokens of `output` that are audio."""


class Price(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The cost of one attempt, and the source of its price."""

    status: Literal["priced", "provider", "free", "unpriced"]
    """How the price is known: "priced", "provider", "free" or "unpriced".

    "priced" is computed from rates, "provider" is stated by the provider, "unpriced" is unknown.
    """
    nanos: Amount | None = None
    """The cost in nano-dollars, the sum of `parts`; None (never 0) if the price is unknown."""
    parts: dict[str, Amount] = {}
    """The cost of each component in nano-dollars, rounded once, half to even.

    The components are input, cache_read, cache_write, output, audio_in, audio_out, image_in,
    image_out, video_in, video_out, citation, request, and the names in TOOLS.
    """
    rates: dict[str, str] = {}
    """For each component: US dollars for one token, or for one use of a tool, as decimal text."""
    source: str | None = None
    """The name of the price list that the rates come from; None if no rates were used."""
    source_version: str | None = None
    """The version of that price list; None if it has none."""
    effective: str | None = None
    """The date from which the rates are valid, YYYY-MM-DD; None if the price list gives no date."""
    reason: str | None = None
    """Why the price is unknown or zero, or what its rates assume.

    None if there is no such reason.
    """
    recorded: Amount | None = None
    """In a replay or fork: nano-dollars that the original answer cost; otherwise None.

    The answer was taken from the log, so it costs nothing now. Also None if the original cost is
    unknown.
    """


class CostCell(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The sum of all attempts of one day, model and agent; kept when the session is erased."""

    day: str
    """The day in UTC, YYYY-MM-DD."""
    model: str
    """The model that was requested."""
    agent: str
    """The agent that made the attempts; "" for attempts outside of agents."""
    calls: Number
    """The number of attempts."""
    unpriced: Number
    """The number of these attempts without a known price."""
    nanos: Number
    """The cost of the attempts with a known price, in nano-dollars."""
    usage: Usage
    """The sum of their token counts."""
    tool_nanos: Number = 0
    """The part of `nanos` that pays for tools that the provider ran."""
    quarter: Number | None = None
    """The quarter of an hour in which the attempts ended, counted from 1970-01-01 UTC."""
    failed: Number = 0
    """The number of attempts that failed; they are not included in `calls`."""
    wasted: Number = 0
    """The part of `nanos` for rejected and incomplete answers."""


class Ancestor(msgspec.Struct, frozen=True, gc=False):
    """A session that called this one, directly or through other sessions."""

    session_id: str
    """The id of that session."""
    tactic_path: str
    """The stable path of its tactic, "package::name"."""


class Origin(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The session that this one is a replay, a fork or an imported copy of."""

    session: str
    """The id of that session."""
    mode: Literal["replay", "fork", "import"]
    """How this session was made from the other one.

    "replay": run again from the record; "fork": branched off; "import": brought in from elsewhere.
    """
    at: Number | None = None
    """The seq of the last event that both sessions share; None if they share all events."""


class Producer(msgspec.Struct, frozen=True, gc=False):
    """The versions of lllm and Python that wrote a session."""

    lllm: str
    """The version of lllm."""
    python: str
    """The version of Python."""


class ToolDefinition(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A tool as it is described to the model."""

    name: str
    """The name by which the model calls the tool."""
    description: str
    """The description of the tool that is sent to the model."""
    schema: object
    """The JSON schema of the tool's arguments (https://json-schema.org)."""
    strict: bool | None = None
    """True if the provider must enforce the schema; None if that was not specified."""


class Limits(msgspec.Struct, frozen=True, gc=False):
    """The maximum number of repetitions within one `respond()`, by reason."""

    max_exception_retry: Number
    """How often the model is asked again because its answer can't be parsed."""
    max_llm_recall: Number
    """How often a failed call of the model is made again."""
    max_interrupt_steps: Number
    """How many turns of the model may call tools."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The base of all events: a type, and the version of its fields."""

    type: ClassVar[str]
    """The name of the event in the log, as "llm.responded"; never a Python path."""
    version: ClassVar[int] = 1
    """The version of the payload's fields."""


class SessionStarted(Event, frozen=True, kw_only=True):
    """A call of a tactic begins: the first event of a session's stream."""

    type: ClassVar[str] = "session.started"
    tactic_path: str
    """The tactic's stable path, "package::name"."""
    name: str
    """The tactic's short name."""
    kind: str = "tactic"
    """What the session is: the call of a "tactic", a `store.session` ("session"), or a "call".

    "call" is a captured call of a model outside of both.
    """
    partition: str = ""
    """The partition of the store that the session belongs to; "" for the default one."""
    task: object = None
    """The first argument of the tactic's call."""
    options: object = None
    """The other keyword arguments of the call."""
    tags: dict[str, str] = {}
    """The tags that were given with the call."""
    metadata: object = None
    """The metadata that was given with the call."""
    ancestors: tuple[Ancestor, ...] = ()
    """The sessions that this one was called in, outermost first; empty for a root session."""
    parent_tool: Number | None = None
    """The number of the parent's tool call in which this session began; None if in no tool call."""
    ordinal: Number | None = None
    """The number of this session among its parent's children, from 1; None for a root session.

    Also None if the number is unknown.
    """
    origin: Origin | None = None
    """The session that this one replays, forks or imports; None for other sessions."""
    owner: str = ""
    """The name of the lock that the writing process holds for as long as it lives."""
    host: str = ""
    """The machine that the writing process runs on; the lock can only be tested there."""
    pid: Number = 0
    """The process id of the writing process."""
    producer: Producer | None = None
    """The versions of the software that wrote the session."""
    traceparent: str | None = None
    """The W3C trace context of the call; None if there is none.

    Format: https://www.w3.org/TR/trace-context/.
    """
    budget: Number | None = None
    """Nano-dollars that the session may spend on models; None if it has no budget of its own."""
    salt: bytes
    """32 random bytes, the HMAC key of all commitments in this stream; see `envelope`."""


class SessionSucceeded(Event, frozen=True, kw_only=True):
    """A call of a tactic returns: the last event of a session's stream."""

    type: ClassVar[str] = "session.succeeded"
    delivery: object = None
    """The value that the call returned, as JSON."""
    elapsed: Number
    """Nanoseconds from the start of the session to its end."""
    events: Number | None = None
    """The number of events before this one in the stream; None if an earlier lllm wrote it."""
    root: bytes | None = None
    """The root of the Merkle tree (RFC 6962) over the digests of those events, in order.

    None if an earlier lllm wrote the event.
    """


class SessionFailed(Event, frozen=True, kw_only=True):
    """A call of a tactic raises or is cancelled: the last event of a session's stream."""

    type: ClassVar[str] = "session.failed"
    error: Error
    """The exception."""
    cancelled: bool = False
    """True if the call was cancelled or interrupted from outside."""
    elapsed: Number
    """Nanoseconds from the start of the session to its end."""
    delivery: object = None
    """The result that had been set before the failure, as JSON; None if none was."""
    events: Number | None = None
    """The number of events before this one in the stream; None if an earlier lllm wrote it."""
    root: bytes | None = None
    """The root of the Merkle tree (RFC 6962) over the digests of those events, in order.

    None if an earlier lllm wrote the event.
    """


class SessionInterrupted(Event, frozen=True, kw_only=True):
    """A session's process was found dead before the session ended.

    A later event of the session overrides this.
    """

    type: ClassVar[str] = "session.interrupted"
    about: str
    """The id of the session."""
    owner: str
    """The name of the lock that the process had held and that was found free."""
    last_seq: Number
    """The seq of the session's last event when it was found."""
    salt: bytes
    """The salt of the stream of this statement."""


class SessionTagged(Event, frozen=True, kw_only=True):
    """Tags of a session are set or removed after its start."""

    type: ClassVar[str] = "session.tagged"
    about: str
    """The id of the session."""
    set: dict[str, str] = {}
    """The tags that are added or changed, with their new values."""
    removed: tuple[str, ...] = ()
    """The names of the tags that are removed."""
    by: str | None = None
    """Who changed the tags; None if the caller did not say."""
    salt: bytes
    """The salt of the stream of this statement."""


class SessionAnnotated(Event, frozen=True, kw_only=True):
    """Somebody or something judges a session, or an attempt in it: a score, a label, a comment.

    A later one of the same name, by the same judge of the same, takes its place.
    """

    type: ClassVar[str] = "session.annotated"
    about: str
    """The id of the session."""
    step: Number | None = None
    """The number of the attempt in the session that is judged, None for the whole session."""
    name: str
    """What is judged, as "correct"."""
    value: object = None
    """The verdict, JSON: true or false, a number, a text; None for a comment alone."""
    comment: str | None = None
    """Why, in words."""
    by: str | None = None
    """Who says so: a person, or a program; None where that was not said."""
    salt: bytes
    """The salt of this statement's own stream."""


class SessionHeld(Event, frozen=True, kw_only=True):
    """A legal hold is placed: the session can't be erased until the hold is released."""

    type: ClassVar[str] = "session.held"
    about: str
    """The id of the session."""
    by: str
    """The name of the person or program that placed the hold."""
    reason: str
    """The reason for the hold, such as the name of a legal case."""
    salt: bytes
    """The salt of the stream of this statement."""


class SessionReleased(Event, frozen=True, kw_only=True):
    """A legal hold is released."""

    type: ClassVar[str] = "session.released"
    about: str
    """The id of the session."""
    hold: str | None = None
    """The stream of the hold that is released; None for all holds on the session."""
    by: str
    """The name of the person or program that released it."""
    reason: str
    """The reason that was given for the release."""
    salt: bytes
    """The salt of the stream of this statement."""


class SessionResidue(Event, frozen=True, kw_only=True):
    """What stays of a session that was erased or archived: the base of both events."""

    about: str
    """The id of the session."""
    by: str
    """The name of the person or program that did it."""
    events: Number
    """The number of the session's events."""
    tactic_path: str
    """The stable path of the session's tactic."""
    state: State
    """The state that the session had ended in."""
    started: Number
    """The start of the session, nanoseconds UTC."""
    ended: Number | None = None
    """The end of the session, nanoseconds UTC; None if it had not ended."""
    cost: tuple[CostCell, ...] = ()
    """The costs of the session without those below it, by quarter of an hour, model and agent."""
    name: str = ""
    """The tactic's short name."""
    kind: str = "tactic"
    """The kind of the session, as in its SessionStarted."""
    partition: str = ""
    """The partition of the store that it belonged to; "" for the default one."""
    elapsed: Number | None = None
    """Nanoseconds from its start to its end; None if it had not ended."""
    ancestors: tuple[Ancestor, ...] = ()
    """The sessions that it was called in, outermost first; they went with it."""
    ordinal: Number | None = None
    """The number of the session among its parent's children, from 1; None for a root session."""
    origin: Origin | None = None
    """The session that it replayed or forked, or was an imported copy of.

    None for other sessions.
    """
    digests: str | None = None
    """The root of the Merkle tree (RFC 6962) over the digests of its events, in order, as hex.

    If they left the log, it is over the digests at `positions`.
    """
    streams: tuple[str, ...] = ()
    """The other streams that went with it, such as statements about the session."""
    positions: tuple[tuple[Number, Number], ...] = ()
    """The first and last position of each range of events that left the log, in order.

    The first one is that of the session's first event. Empty if all events are in the log.
    """
    salt: bytes
    """The salt of the stream of this statement."""


class SessionErased(SessionResidue, frozen=True, kw_only=True):
    """A session's payloads were erased on purpose; its list row and costs remain.

    All its fields stay in the log. It is written before the payloads are erased. If it is found
    while payloads of the session are still there, the erasure was interrupted, and is then
    finished. Its streams are those whose payloads were erased, too: statements about the session,
    and definitions that no other session uses.
    """

    type: ClassVar[str] = "session.erased"
    reason: str
    """The reason that was given for the erasure."""


class SessionArchived(SessionResidue, frozen=True, kw_only=True):
    """A session's events left the log for an archive file; their digests, list row and costs stay.

    It is written when the file has been checked, and before the events are removed. If it is found
    while they are still there, the removal was interrupted, and is then finished.
    """

    type: ClassVar[str] = "session.archived"
    archive: str
    """The path of the archive file, as it was then."""
    sha256: str
    """The SHA-256 of that file, as hex."""
    tags: dict[str, str] = {}
    """The session's own tags."""
    definitions: tuple[str, ...] = ()
    """The streams of the definitions that it uses, which stay in the log."""


class SessionRestored(Event, frozen=True, kw_only=True):
    """An archived session is imported again: its events follow, at new positions."""

    type: ClassVar[str] = "session.restored"
    about: str
    """The id of the session."""
    cost: tuple[CostCell, ...] = ()
    """The costs that its `session.archived` kept, which its events now count again."""
    digests: str | None = None
    """The root over the digests at `positions`, as its `session.archived` has it."""
    positions: tuple[tuple[Number, Number], ...] = ()
    """Where its events stood before they left the log; only their digests are there."""
    salt: bytes
    """The salt of the stream of this statement."""


class AgentDefined(Event, frozen=True, kw_only=True):
    """The definition of an agent, written once for each log when it is first used.

    The name of its stream is made from its content (see `definitions`), so equal definitions share
    one stream.
    """

    type: ClassVar[str] = "agent.defined"
    name: str
    """The agent's name."""
    system: str
    """The agent's system prompt."""
    prompts: tuple[str, ...] = ()
    """The paths of the agent's other prompts."""
    provider: str | None = None
    """The provider that is called; None if the invoker decides."""
    model: str
    """The model that is requested."""
    params: object = None
    """The parameters that are sent with each request, as JSON."""
    tools: tuple[ToolDefinition, ...] = ()
    """The tools that are described to the model."""
    output_schema: object = None
    """The JSON schema that answers must fit; None for free text."""
    salt: bytes = b""
    """The salt of the stream of this definition."""


class AgentStarted(Event, frozen=True, kw_only=True):
    """`agent.respond()` is called."""

    type: ClassVar[str] = "agent.started"
    call: Number
    """The number of this agent call within the session."""
    agent: str
    """The agent's name."""
    definition: str
    """The stream of its AgentDefined."""
    dialog: Number
    """The number of the dialog that the agent answers."""
    ordinal: Number
    """The number of this call among the calls of the same agent in the session, from 1."""
    limits: Limits
    """The limits on retries and turns of this call."""
    parent_tool: Number | None = None
    """The number of the tool call of this session in which the agent is called; None if in none."""


class AgentSucceeded(Event, frozen=True, kw_only=True):
    """`agent.respond()` returns an answer."""

    type: ClassVar[str] = "agent.succeeded"
    call: Number
    """The number of the agent call."""
    answer: Number
    """The number of the message that holds the answer."""
    parsed: object = None
    """The answer as the prompt's parser returned it, as JSON."""
    elapsed: Number
    """Nanoseconds from the start of the call to its end."""


class AgentFailed(Event, frozen=True, kw_only=True):
    """`agent.respond()` raises."""

    type: ClassVar[str] = "agent.failed"
    call: Number
    """The number of the agent call."""
    error: Error
    """The exception."""
    cancelled: bool = False
    """True if the call was cancelled or interrupted from outside."""
    elapsed: Number
    """Nanoseconds from the start of the call to its end."""


class DialogOpened(Event, frozen=True, kw_only=True):
    """A dialog begins, either empty or as a copy of the first messages of another dialog."""

    type: ClassVar[str] = "dialog.opened"
    dialog: Number
    """The number of the dialog within the session."""
    agent: str
    """The agent that it belongs to."""
    alias: str
    """The name that the tactic gave the dialog."""
    parent: Number | None = None
    """The number of the dialog that it is a copy of, None for an empty one."""
    upto: Number | None = None
    """The number of the last message that is copied from the parent; None for an empty dialog."""


class MessageAdded(Event, frozen=True, kw_only=True):
    """A message is added to a dialog, unless another event already carries it."""

    type: ClassVar[str] = "message.added"
    message: Number
    """The number of the message in the session."""
    dialog: Number
    """The number of the dialog that it enters."""
    content: Content
    """The content of the message."""
    why: str
    """Why it was added: "system", "user", "retry", "limit" or "edit".

    "retry" tells the model what was wrong with its answer, "limit" that it may call no more tools;
    "edit" is a change made by a fork, or a message that it copies to another dialog.
    """
    prompt: str | None = None
    """The path of the prompt that the text was made from; None for a text without a prompt."""
    prompt_args: object = None
    """The values for the placeholders of that prompt, as JSON."""


class SessionEdited(Event, frozen=True, kw_only=True):
    """A fork changes something: from here on it differs from the session that it was made from.

    Only the fields that the fork changes are set. A changed message is added to the dialog by a
    `message.added` event, and a changed tool result by a `tool.returned` event.
    """

    type: ClassVar[str] = "session.edited"
    call: Number
    """The number of the agent call in which the change is made."""
    step: Number
    """The first turn of the model that sees the change, within the agent call, from 1."""
    attempt: Number = 1
    """The first attempt of that turn that sees the change, from 1."""
    message: str | None = None
    """The new text of the user's message that this turn answers; None if it is unchanged."""
    tool: Number | None = None
    """The number of the tool call whose result is changed; None if none is."""
    model: str | None = None
    """The model that the agent calls from there on; None if it is unchanged."""
    params: object = None
    """The model parameters that change from there on, as JSON; None if they are unchanged."""
    prompt: str | None = None
    """The text of the agent's system prompt from there on; None if it is unchanged."""


class LLMRequested(Event, frozen=True, kw_only=True):
    """One attempt to call a model begins.

    An LLMResponded or LLMFailed with the same number ends it.
    """

    type: ClassVar[str] = "llm.requested"
    request: Number
    """The number of the attempt within the session."""
    call: Number | None = None
    """The number of the agent call that the attempt belongs to; None for a captured call."""
    step: Number
    """The number of the model's turn within the agent call, from 1."""
    attempt: Number
    """The number of the attempt within that turn, from 1."""
    operation: str = "chat"
    """The kind of request, as "chat", "responses" or "embeddings"."""
    provider: str
    """The provider that the request is sent to, as "openai"."""
    api: str
    """The API whose format the request has, as "chat.completions"."""
    host: str | None = None
    """The host that the request is sent to; None if the invoker does not tell."""
    port: Number | None = None
    """The port of the host; None for the default port."""
    region: str | None = None
    """The provider's region if the URL names it; otherwise None."""
    model: str
    """The model that is requested."""
    dialog: Number | None = None
    """The number of the dialog whose messages are sent; None if no dialog is used."""
    upto: Number | None = None
    """The number of the last message of the dialog that is sent; None if no dialog is used."""
    definition: str | None = None
    """The stream of the AgentDefined with the request's tools and parameters; None without one."""
    params: object = None
    """Parameters of this attempt, as JSON; they override those of the definition."""
    tool_choice: str | None = None
    """The tool that the model must call, or "auto" or "none"; None if not specified."""
    stream: bool = False
    """True if the answer is streamed."""
    service_tier: str | None = None
    """The service tier that is requested; None for the default one."""
    media: tuple[str, ...] = ()
    """The media kinds (audio, image, video) that the request contains or may contain."""
    traceparent: str | None = None
    """The W3C trace context of the program's span around the call.

    None if there is no such span, or if it is the one in the session's first event.
    """
    digest: str
    """HMAC-SHA-256 of the whole request with the session's salt as key, as hex."""


class LLMResponded(Event, frozen=True, kw_only=True):
    """A model answered one attempt to call it.

    This event has all that a bill needs: it repeats the requested model and the agent.
    """

    type: ClassVar[str] = "llm.responded"
    request: Number
    """The number of the attempt."""
    message: Number
    """The number of the message that holds the answer."""
    content: Content
    """The answer of the model."""
    finish: str
    """Why the model stopped: "stop", "tool_calls", "length", "content_filter" or "other"."""
    finish_raw: str | None = None
    """The provider's own word for that reason."""
    agent: str = ""
    """The agent that called the model; "" outside of agents."""
    asked: str
    """The model that was requested."""
    model: str
    """The model that answered, by the provider's name for it."""
    response_id: str | None = None
    """The provider's id of the answer."""
    request_id: str | None = None
    """The provider's id of the HTTP request, which its support asks for."""
    service_tier: str | None = None
    """The service tier of the answer, as the provider reported it."""
    fingerprint: str | None = None
    """The provider's id of the system configuration that answered."""
    usage_raw: object = None
    """The token usage exactly as the provider sent it, as JSON."""
    usage: Usage | None = None
    """The token counts; None if the provider sent no usage that can be read."""
    price: Price
    """The cost of the attempt."""
    elapsed: Number
    """Nanoseconds from the request to the end of the answer."""
    first_token: Number | None = None
    """Nanoseconds from the request to the first piece of a stream; None if it was not streamed."""


class LLMFailed(Event, frozen=True, kw_only=True):
    """One attempt to call a model failed."""

    type: ClassVar[str] = "llm.failed"
    request: Number
    """The number of the attempt."""
    agent: str = ""
    """The agent that called the model; "" outside of agents."""
    asked: str
    """The model that was requested."""
    error: Error
    """The error of the attempt."""
    cancelled: bool = False
    """True if the attempt was cancelled or interrupted, False if it failed."""
    request_id: str | None = None
    """The provider's id of the HTTP request, which its support asks for."""
    retry_after: Number | None = None
    """Nanoseconds to wait before the next attempt, as the provider asked; None if it did not."""
    partial: Content | None = None
    """The part of the answer that had arrived; None if none had."""
    model: str | None = None
    """The model that answered; None if nothing that arrived names it."""
    service_tier: str | None = None
    """The service tier of the answer; None if nothing that arrived names it."""
    unfinished: bool = False
    """True if an answer had begun and was cut off, so `usage` may be too low."""
    usage_raw: object = None
    """The token usage that had arrived, exactly as the provider sent it, as JSON."""
    usage: Usage | None = None
    """The token counts that had arrived; None if none had."""
    price: Price | None = None
    """The cost of the attempt; None if nothing is known about it."""
    elapsed: Number
    """Nanoseconds from the request to the failure."""


class LLMRefused(Event, frozen=True, kw_only=True):
    """An answer was rejected: it could not be parsed, or called tools when none were allowed.

    Its cost stays in the bill and is counted as wasted.
    """

    type: ClassVar[str] = "llm.refused"
    request: Number
    """The number of the attempt."""
    agent: str = ""
    """The agent that called the model, as in the LLMResponded of the attempt."""
    asked: str
    """The model that was requested, as in the LLMResponded of the attempt."""
    cost: Amount | None = None
    """The cost of the answer in nano-dollars; None if it is unknown."""
    reason: str
    """What was wrong with the answer."""


class ToolCalled(Event, frozen=True, kw_only=True):
    """A tool that the model asked for is about to run."""

    type: ClassVar[str] = "tool.called"
    tool: Number
    """The number of this tool call within the session."""
    request: Number
    """The number of the attempt whose answer asked for the tool; 0 if no recorded answer did."""
    call_id: str
    """The provider's id of the call."""
    name: str
    """The name of the tool."""
    arguments: object = None
    """The parsed arguments; None if the text that the model sent is not valid JSON."""


class ToolReturned(Event, frozen=True, kw_only=True):
    """A tool returned; its result is sent to the model."""

    type: ClassVar[str] = "tool.returned"
    tool: Number
    """The number of the tool call."""
    message: Number
    """The number of the message that holds the result."""
    content: Content
    """The message that the model gets."""
    value: object = None
    """The value that the tool returned, as JSON; None if the text of `content` says all of it."""
    repeats: Number | None = None
    """The number of the earlier identical call whose result is given again.

    None if the tool ran.
    """
    elapsed: Number
    """Nanoseconds that the tool ran."""


class ToolFailed(Event, frozen=True, kw_only=True):
    """A tool raised an exception, or its name or arguments were wrong."""

    type: ClassVar[str] = "tool.failed"
    tool: Number
    """The number of the tool call."""
    message: Number
    """The number of the message that tells the model about the failure."""
    content: Content
    """The message that the model gets."""
    error: Error
    """The exception, or what was wrong with the call."""
    elapsed: Number
    """Nanoseconds that the tool ran."""


DrawnKind = Literal["now", "uuid4", "random"]


class ValueDrawn(Event, frozen=True, kw_only=True):
    """The program asked lllm for a time, an id or a random number, which a replay returns again."""

    type: ClassVar[str] = "value.drawn"
    kind: DrawnKind
    """The function that was called: `lllm.now`, `lllm.uuid4` or `lllm.random`."""
    value: str | float
    """A time in ISO 8601 with its offset, an id in hex with dashes, or a number from 0 to 1."""
    tool: Number | None = None
    """The number of the tool call in which it was called; None outside of tools."""


class RetryScheduled(Event, frozen=True, kw_only=True):
    """The model is about to be asked again: its answer was invalid, or the call failed."""

    type: ClassVar[str] = "retry.scheduled"
    call: Number
    """The number of the agent call."""
    request: Number
    """The number of the attempt that failed or was rejected."""
    kind: Literal["exception", "llm_recall"]
    """The reason: "exception" for an invalid answer, "llm_recall" for a failed call."""
    attempt: Number
    """The number of this retry among those of its kind, from 1."""
    limit: Number
    """The greatest number of retries of this kind."""
    wait: Number = 0
    """Nanoseconds to wait before the next attempt."""
    reason: str
    """What was wrong with the answer or the call."""


class ErrorRecorded(Event, frozen=True, kw_only=True):
    """An error outside of any session, recorded by `save_error`."""

    type: ClassVar[str] = "error.recorded"
    error: Error
    """The exception."""
    context: object = None
    """What the caller of `save_error` added, as JSON."""
    partition: str = ""
    """The partition of the store that the error belongs to; "" for the default one."""
    salt: bytes
    """The salt of the stream of this statement."""


class LogGap(Event, frozen=True, kw_only=True):
    """Some events could not be written and were lost; this event counts them."""

    type: ClassVar[str] = "log.gap"
    lost: Number
    """The number of lost events."""
    first_time: Number
    """The time of the first lost event, nanoseconds UTC."""
    last_time: Number
    """The time of the last lost event, nanoseconds UTC."""
    reason: str
    """Why they could not be written."""
    salt: bytes
    """The salt of the stream of this statement."""


class Unknown(Event, frozen=True, kw_only=True):
    """A stored event that this version of lllm can't read: its type, version or payload is unknown.

    It is made when a log is read and never written. It is kept, counted and shown.
    """

    type: ClassVar[str] = "unknown"
    was: str
    """The type that is stored in the log."""
    was_version: Number
    """The version that is stored in the log."""
    raw: object = None
    """The payload as JSON values; None if it is not valid JSON."""
    reason: str = ""
    """Why the payload could not be decoded as its stored type."""


class Erased(Event, frozen=True, kw_only=True):
    """An event whose payload was erased on purpose.

    It is made when a log is read and never written. The envelope, the digest and this commitment
    stay in the log, so the type and time of the event can still be checked.
    """

    type: ClassVar[str] = "erased"
    was: str
    """The type that the log says."""
    was_version: Number
    """The version that the log says."""
    commitment: str
    """HMAC-SHA-256 of the erased payload, as hex; its key, the salt, is erased, too."""


EVENTS: dict[str, type[Event]] = {
    kind.type: kind
    for kind in (
        SessionStarted, SessionSucceeded, SessionFailed, SessionInterrupted, SessionTagged,
        SessionAnnotated, SessionHeld, SessionReleased, SessionErased, SessionArchived,
        SessionRestored, AgentDefined, AgentStarted, AgentSucceeded, AgentFailed, DialogOpened,
        MessageAdded, SessionEdited, LLMRequested, LLMResponded, LLMFailed, LLMRefused,
        ToolCalled, ToolReturned, ToolFailed, ValueDrawn, RetryScheduled, ErrorRecorded, LogGap,
    )
}  # fmt: skip
