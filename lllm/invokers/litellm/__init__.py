"""Calls models through LiteLLM, for providers without an invoker of their own in lllm."""

from lllm.invokers.litellm.invoker import LiteLLMInvoker

__all__ = ["LiteLLMInvoker"]
