"""Records the calls of LiteLLM that it reports to a custom logger.

LiteLLM reports an answer when its caller has it already: from a thread of its own, or from a task.
So whole answers are read earlier, from the provider's body, which LiteLLM reports before it returns
the answer. For the end of a stream, the session and the store wait.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Mapping

from lllm.events.concurrency import finalizer_work
from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.errors import InvokeError
from lllm.instrumentation.frameworks.framework_host import FrameworkHost
from lllm.instrumentation.frameworks.framework_session import FrameworkSession
from lllm.instrumentation.frameworks.litellm_messages import (
    answer_of,
    biller_of,
    function_of,
    is_stream,
    operation_of,
    partial_of,
    provider_answer,
    request_of,
    tags_of,
)
from lllm.instrumentation.frameworks.observed_call import ClientSends, ObservedCall, observed
from lllm.instrumentation.recording_errors import isolate_recording_errors
from lllm.invokers import Answer
from lllm.invokers.litellm.library import is_called_by_agent
from lllm.sessions.session import SessionScope

_LONGEST_WAIT = 2.0  # seconds; LiteLLM reports an answer a few milliseconds after the caller has it
_LEFT = "The stream was left before its end."
_API = "litellm"


class LiteLLMCall:
    """A call of LiteLLM in progress.

    Args:
        owner: The session that it is recorded in.
        call: The model call.
        streamed: True if the answer is streamed.
        forget: A function that is called when the call has ended.

    Attributes:
        owner: The session that it is recorded in.
        call: The model call.
        chunks: The pieces of the stream, as LiteLLM keeps them; None if they are not known.
    """

    def __init__(
        self,
        owner: FrameworkSession,
        call: ObservedCall,
        forget: Callable[[], None],
        *,
        streamed: bool,
    ) -> None:
        self.owner = owner
        self.call = call
        self.chunks: list[object] | None = None
        self._streamed = streamed
        self._is_answered = False  # the provider's answer has begun
        self._ended = threading.Event()
        self._stream: weakref.ref[object] | None = None
        self._forget = forget
        self._task = _running_task()
        if self._task is not None:
            self._task.add_done_callback(self._task_is_done)

    @property
    def session(self) -> SessionScope:
        """The session that it belongs to."""
        return self.owner.scope

    @property
    def is_over(self) -> bool:
        """True if the call has ended."""
        return self.call.is_over

    @property
    def is_waiting(self) -> bool:
        """True if the answer has not begun, and no captured client has taken the call over."""
        return self.call.is_waiting and not self._is_answered

    def taken_by(self, sent: ClientSends) -> ObservedCall | None:
        """Let a captured client record the call; see ReportedCall."""
        if self._is_answered or sent.asked.model != self.call.model:
            return None
        return self.call.taken_by(sent)

    def answered(self, original: object) -> None:
        """Note that the answer has begun.

        Args:
            original: What LiteLLM keeps of it: a body, or the stream that the caller reads.
        """
        self._is_answered = True
        chunks = getattr(original, "chunks", None)
        if isinstance(chunks, list):
            self.chunks = chunks
            self._stream = weakref.ref(original, self._dropped)

    def _dropped(self, _: object) -> None:
        if self.call.is_over:
            self._is_ended()
        elif not self._came_whole():
            finalizer_work.later(self.leave)

    def _task_is_done(self, _: object) -> None:
        """Record a call that was cancelled, of which LiteLLM reports nothing."""
        if self.is_waiting and not self._streamed:
            self.leave()

    def _came_whole(self) -> bool:
        stream = None if self._stream is None else self._stream()
        if stream is not None:
            return getattr(stream, "sent_last_chunk", False) is True
        choices = [getattr(one, "choices", None) or [None] for one in self.chunks or ()]
        return any(getattr(one[0], "finish_reason", None) for one in choices)

    def leave(self) -> None:
        """Record that nobody waits for the answer any more."""
        with isolate_recording_errors(self.session, failing=True):
            partial = partial_of(self.chunks)
            self.call.settle_with(_LEFT, partial)
            self.end(GeneratorExit(_LEFT))

    def end(self, error: BaseException | None) -> None:
        """Write what is staged, and end a session that was begun for this call."""
        self.session.calls.remove_late(self)  # it is this one that has come
        try:
            if self.owner.alone:
                self.session.leave(error)
            elif error is None:
                self.session.recorder.commit()
            else:
                self.session.recorder.commit_after(error)
        finally:
            self._is_ended()

    async def aend(self, error: BaseException | None) -> None:
        """Write as `end` does, on an event loop."""
        self.session.calls.remove_late(self)  # it is this one that has come
        try:
            if self.owner.alone:
                await self.session.aleave(error)
            elif error is None:
                await self.session.recorder.acommit()
            else:
                await self.session.recorder.acommit_after(error)
        finally:
            self._is_ended()

    def _is_ended(self) -> None:
        self._ended.set()
        self._forget()
        if self._task is not None:
            self._task.remove_done_callback(self._task_is_done)
        self.session.calls.remove_late(self)

    def wait(self) -> None:
        """Wait until LiteLLM's thread has reported the end; see LateAnswer."""
        # A task can't report anything while the thread of its event loop waits here.
        if self._task is None and self._came_late():
            self._ended.wait(_LONGEST_WAIT)

    async def await_it(self) -> None:
        """Wait until LiteLLM's task or thread has reported the end; see LateAnswer."""
        until = time.monotonic() + _LONGEST_WAIT
        while self._came_late() and time.monotonic() < until:
            await asyncio.sleep(0.002)

    def _came_late(self) -> bool:
        """True if the answer may have come, and is not recorded yet."""
        if self._ended.is_set():
            return False
        if self._streamed and self._task is not None:
            return True  # LiteLLM shows nothing of such a stream before its end
        return self._is_answered and (self.chunks is None or self._came_whole())


class LiteLLMRecorder:
    """The custom logger that records calls.

    LiteLLM logs what a logger raises, so an error of lllm never ends a call. It calls every method
    with keywords.

    Args:
        host: Begins the sessions.
    """

    def __init__(self, host: FrameworkHost) -> None:
        super().__init__()
        self._host = host
        self._lock = ThreadLock()
        self._calls: dict[str, LiteLLMCall] = {}

    def wait(self) -> None:
        """Wait for the ends of calls that LiteLLM is about to report."""
        for call in list(self._calls.values()):
            call.wait()

    # -- requests

    def log_pre_api_call(self, model: str, messages: object, kwargs: Mapping[str, object]) -> None:  # noqa: ARG002 - the hook's
        """Record that a model is asked."""
        if not self._host.is_on or operation_of(kwargs) is None or is_called_by_agent():
            return
        if any(one.is_waiting and not isinstance(one, LiteLLMCall) for one in observed.get()):
            return  # a framework calls LiteLLM, and its own hook records the call
        call_id = _id_of(kwargs)
        before = self._calls.get(call_id)
        with isolate_recording_errors(None if before is None else before.session):
            if before is not None:
                self._tried_again(before, kwargs)
            owner = self._host.join(function_of(kwargs), tags_of(kwargs))
            if owner is not None:
                self._begin(owner, call_id, kwargs)

    def _begin(self, owner: FrameworkSession, call_id: str, kwargs: Mapping[str, object]) -> None:
        made = owner.ask_late(
            request_of(kwargs), biller_of(kwargs, self._host.provider), api=_API, agent=None,
            began=time.perf_counter_ns(), operation=operation_of(kwargs) or "chat",
        )  # fmt: skip
        call = LiteLLMCall(
            owner, made, lambda: self._forget(call_id, call), streamed=is_stream(kwargs)
        )
        with self._lock.held():
            self._calls[call_id] = call
        owner.scope.calls.add_late(call)
        observed.set((*(one for one in observed.get() if not one.is_over), call))
        owner.scope.recorder.commit()

    def _forget(self, call_id: str, call: LiteLLMCall) -> None:
        with self._lock.held():
            if self._calls.get(call_id) is call:
                del self._calls[call_id]

    def _tried_again(self, before: LiteLLMCall, kwargs: Mapping[str, object]) -> None:
        """End an attempt that LiteLLM makes again without having reported its failure."""
        said = kwargs.get("original_response")
        why = said if isinstance(said, str) and said else "LiteLLM tried again."
        error = InvokeError(why, retryable=True)
        before.call.failed(error)
        before.end(error)

    def log_post_api_call(
        self,
        kwargs: Mapping[str, object],
        response_obj: object,  # noqa: ARG002 - the hook's
        start_time: object,  # noqa: ARG002
        end_time: object,  # noqa: ARG002
    ) -> None:
        """Record a whole answer, and note the begin of a streamed one."""
        original = kwargs.get("original_response")
        call = self._calls.get(_id_of(kwargs))
        if call is None:
            return
        call.answered(original)
        with isolate_recording_errors(call.session):
            found = None
            if not is_stream(kwargs):
                found = provider_answer(original, call.call.model)
            if found is not None:
                self._answer(call, found)
                call.end(None)

    # -- answers

    def _answer(self, call: LiteLLMCall, answer: Answer) -> None:
        call.owner.answer(call.call, answer, None)

    def _ended_call(self, kwargs: Mapping[str, object]) -> LiteLLMCall | None:
        """The call that ends now; None if it is not recorded, or its end is."""
        call = self._calls.get(_id_of(kwargs))
        return None if call is None or call.call.is_over else call

    def log_success_event(
        self,
        kwargs: Mapping[str, object],
        response_obj: object,
        start_time: object,  # noqa: ARG002 - the hook's
        end_time: object,  # noqa: ARG002
    ) -> None:
        """Record an answer that is not recorded yet."""
        call = self._ended_call(kwargs)
        if call is None:
            return
        with isolate_recording_errors(call.session):
            self._answer(call, answer_of(response_obj, kwargs, call.chunks))
            call.end(None)

    async def async_log_success_event(
        self,
        kwargs: Mapping[str, object],
        response_obj: object,
        start_time: object,  # noqa: ARG002 - the hook's
        end_time: object,  # noqa: ARG002
    ) -> None:
        """Record an answer on an event loop."""
        call = self._ended_call(kwargs)
        if call is None:
            return
        with isolate_recording_errors(call.session):
            self._answer(call, answer_of(response_obj, kwargs, call.chunks))
            await call.aend(None)

    async def async_post_call_success_deployment_hook(
        self,
        request_data: Mapping[str, object],
        response: object,
        call_type: object,
    ) -> None:
        """Record a whole answer on an event loop, before its caller has it."""
        call = self._calls.get(_id_of(request_data))
        if call is None or call.call.is_over:
            return
        with isolate_recording_errors(call.session):
            kind = str(getattr(call_type, "value", call_type))
            details = {**request_data, "call_type": kind}
            self._answer(call, answer_of(response, details))
            await call.aend(None)

    # -- failures

    def log_failure_event(
        self,
        kwargs: Mapping[str, object],
        response_obj: object,  # noqa: ARG002 - the hook's
        start_time: object,  # noqa: ARG002
        end_time: object,  # noqa: ARG002
    ) -> None:
        """Record a failure."""
        call, error = self._ended_call(kwargs), _error_of(kwargs)
        if call is not None:
            with isolate_recording_errors(call.session, failing=True):
                call.call.failed(error)
                call.end(error)

    async def async_log_failure_event(
        self,
        kwargs: Mapping[str, object],
        response_obj: object,  # noqa: ARG002 - the hook's
        start_time: object,  # noqa: ARG002
        end_time: object,  # noqa: ARG002
    ) -> None:
        """Record a failure on an event loop."""
        call, error = self._ended_call(kwargs), _error_of(kwargs)
        if call is not None:
            with isolate_recording_errors(call.session, failing=True):
                call.call.failed(error)
                await call.aend(error)


def _id_of(kwargs: Mapping[str, object]) -> str:
    return str(kwargs.get("litellm_call_id"))


def _error_of(kwargs: Mapping[str, object]) -> BaseException:
    error = kwargs.get("exception")
    if isinstance(error, BaseException):
        return error
    return InvokeError(str(error or "The call failed."), retryable=False)


def _running_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return None
