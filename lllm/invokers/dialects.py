"""The dialects of models' APIs that are spoken here; `assembling` says what one is."""

from __future__ import annotations

from lllm.invokers import chat_completions, messages, responses
from lllm.invokers.assembling import Dialect
from lllm.invokers.chat_stream import ChatStream
from lllm.invokers.messages_stream import MessagesStream
from lllm.invokers.responses_stream import ResponsesStream

CHAT = Dialect("chat.completions", chat_completions.payload, chat_completions.answer, ChatStream)
RESPONSES = Dialect("responses", responses.payload, responses.answer, ResponsesStream)
MESSAGES = Dialect("messages", messages.payload, messages.answer, MessagesStream)
