"""Lists the dialects of models' APIs that lllm supports; `dialect` defines what one is."""

from __future__ import annotations

from lllm.invokers.dialects import chat_completions, generate_content, messages, responses
from lllm.invokers.dialects.chat_completions_stream import ChatStream
from lllm.invokers.dialects.dialect import Dialect, no_payload
from lllm.invokers.dialects.generate_content_stream import GenerateContentStream
from lllm.invokers.dialects.messages_stream import MessagesStream
from lllm.invokers.dialects.responses_stream import ResponsesStream

CHAT = Dialect("chat.completions", chat_completions.payload, chat_completions.answer, ChatStream)
RESPONSES = Dialect("responses", responses.payload, responses.answer, ResponsesStream)
MESSAGES = Dialect("messages", messages.payload, messages.answer, MessagesStream)
GENERATE_CONTENT = Dialect(
    "generate_content", no_payload, generate_content.answer, GenerateContentStream
)
