"""Models of any provider that LiteLLM knows, for those that have no SDK of their own here."""

from lllm.invokers.litellm.invoker import LiteLLMInvoker

__all__ = ["LiteLLMInvoker"]
