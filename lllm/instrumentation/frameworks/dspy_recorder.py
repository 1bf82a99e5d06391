"""Records the programs of DSPy that its callbacks report.

Each outermost module is a session; so is a module that runs inside of a tool, or of an evaluation
or an optimizer, which are sessions themselves. The modules inside that call a model are agents.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import update_wrapper

from lllm.instrumentation.frameworks.dspy_messages import (
    answer_of,
    biller_of,
    delivery_of,
    entry_of,
    name_of,
    names_inside,
    request_of,
    status_of,
    task_of,
    tool_message,
)
from lllm.instrumentation.frameworks.framework_host import FrameworkHost
from lllm.instrumentation.frameworks.framework_session import (
    FrameworkSession,
    ObservedAgent,
    ObservedTool,
)
from lllm.instrumentation.frameworks.observed_call import ObservedCall, observed
from lllm.instrumentation.recording_errors import isolate_recording_errors
from lllm.sessions.context_values import during
from lllm.sessions.current_session import current_tool
from lllm.sessions.error_details import is_cancellation
from lllm.sessions.session import SessionScope
from lllm.sessions.threads import carry

_API = "dspy"


class _Run:
    """A call of a module, a model, a tool, an evaluation or an optimizer in progress.

    Attributes:
        instance: The object of DSPy that is called.
        above: The call around it in the same session; None if there is none.
        session: The session that it is recorded in; None if it is not recorded.
        names: The names of the predictors in the program.
        begins_sessions: True if the modules directly inside have sessions of their own.
        is_root: True if the session was begun for it.
        agent: The agent that model calls directly inside belong to; None outside of modules.
        call: The model call; None if it is none.
        tool: The tool call; None if it is none.
        outer_tool: The number of the tool that was running when a tool began; None for none.
        last_request: The number of the last answered request inside; 0 for none.
    """

    def __init__(
        self, instance: object, session: FrameworkSession | None, above: _Run | None
    ) -> None:
        self.instance = instance
        self.session = session
        self.names: dict[int, str] = {} if above is None else above.names
        self.begins_sessions = False
        self.is_root = False
        self.agent: ObservedAgent | None = None if above is None else above.agent
        self.call: ObservedCall | None = None
        self.tool: ObservedTool | None = None
        self.outer_tool: int | None = None
        self.last_request = 0
        self.above = above


class DSPyRecorder:
    """The callback that records programs.

    DSPy calls it in the context of the program, and logs what it raises, so an error of lllm never
    ends a program.

    Args:
        host: Begins the sessions.
        active: DSPy's context variable with the id of the call around the running code.
    """

    def __init__(self, host: FrameworkHost, active: ContextVar[str | None]) -> None:
        self.host = host
        self._active = active
        self._carried: ContextVar[_Run | None] = ContextVar("lllm_dspy_run", default=None)
        self._runs: dict[str, _Run] = {}

    def __deepcopy__(self, _: object) -> DSPyRecorder:
        """Return itself: DSPy copies its settings, and the programs that are compiled."""
        return self

    def _around(self) -> _Run | None:
        """The call that the running code is inside of; None outside of any recorded one."""
        return self._runs.get(self._active.get() or "") or self._carried.get()

    def carry(self, function: Callable[..., object]) -> Callable[..., object]:
        """Make a function run, in any thread, inside of what is running here."""
        around, inside = self._around(), carry(function)

        def run(*args: object, **kwargs: object) -> object:
            with during(self._carried, around):
                return inside(*args, **kwargs)

        update_wrapper(run, function)
        return run

    # -- modules, and what runs modules

    def on_module_start(self, call_id: str, instance: object, inputs: Mapping[str, object]) -> None:
        """Begin a session, or an agent of the session around it."""
        above = self._around()
        with isolate_recording_errors(_scope_of(above)):
            if above is None or above.begins_sessions:
                self._begin(call_id, instance, name_of(instance), task_of(inputs))
                return
            run = self._runs[call_id] = _Run(instance, above.session, above)
            if above.session is not None:
                name = above.names.get(id(instance)) or name_of(instance)
                run.agent = ObservedAgent(above.session, name)

    def on_evaluate_start(
        self, call_id: str, instance: object, inputs: Mapping[str, object]
    ) -> None:
        """Begin the session of an evaluation, with sessions below for its examples."""
        program = inputs.get("program") or getattr(instance, "program", None)
        self._begin_many(call_id, instance, {"program": name_of(program)})

    def on_compile_start(
        self, call_id: str, instance: object, inputs: Mapping[str, object]
    ) -> None:
        """Begin the session of an optimizer, with sessions below for what it runs."""
        self._begin_many(call_id, instance, {"program": name_of(inputs.get("student"))})

    def _begin_many(self, call_id: str, instance: object, task: object) -> None:
        with isolate_recording_errors(_scope_of(self._around())):
            self._begin(call_id, instance, type(instance).__name__, task)
            if call_id in self._runs:
                self._runs[call_id].begins_sessions = True

    def _begin(self, call_id: str, instance: object, name: str, task: object) -> None:
        session = self.host.begin(name, task=task, tags={}, metadata=None)
        if session is None:
            return
        run = self._runs[call_id] = _Run(instance, session, None)
        run.is_root = True
        run.names = names_inside(instance)
        run.agent = ObservedAgent(session, name)
        session.scope.hold()
        session.scope.recorder.commit()

    def on_module_end(
        self, call_id: str, outputs: object, exception: BaseException | None = None
    ) -> None:
        """End what began with the module."""
        run = self._runs.pop(call_id, None)
        if run is None or run.session is None:
            return
        session = run.session
        with isolate_recording_errors(session.scope, failing=exception is not None):
            if run.agent is not None:
                run.agent.end(exception)
            if not run.is_root:
                session.scope.recorder.commit()
                return
            session.scope.let_go()
            if exception is None:
                session.scope.recorder.deliver(delivery_of(outputs))
            session.scope.leave(exception)

    on_evaluate_end = on_compile_end = on_module_end

    # -- models

    def on_lm_start(self, call_id: str, instance: object, inputs: Mapping[str, object]) -> None:
        """Record that a model is asked."""
        above = self._around()
        with isolate_recording_errors(_scope_of(above)):
            session = self.host.join(type(instance).__name__) if above is None else above.session
            if session is None:
                return
            run = self._runs[call_id] = _Run(instance, session, above)
            run.is_root = above is None and session.alone
            if above is not None and (above.tool is not None or above.begins_sessions):
                run.agent = None
            run.call = session.ask_late(
                request_of(instance, inputs), biller_of(instance, self.host.provider), api=_API,
                agent=run.agent, began=time.perf_counter_ns(),
            )  # fmt: skip
            observed.set((*(one for one in observed.get() if not one.is_over), run.call))
            session.scope.recorder.commit()

    def on_lm_end(
        self, call_id: str, outputs: object, exception: BaseException | None = None
    ) -> None:
        """Record the answer of a model, or its failure."""
        run = self._runs.pop(call_id, None)
        if run is None or run.session is None or run.call is None:
            return
        session, call = run.session, run.call
        with isolate_recording_errors(session.scope, failing=exception is not None):
            if exception is None:
                entry = entry_of(run.instance, outputs) or {}
                session.answer(call, answer_of(entry, outputs, call.model), run.agent)
                _note_request(run, call.last_request)
            elif is_cancellation(exception):
                call.settle()
            else:
                call.failed(exception, status=status_of(exception))
            observed.set(tuple(one for one in observed.get() if not one.is_over))
            if run.is_root:
                session.scope.leave(exception)
            else:
                session.scope.recorder.commit()

    # -- tools

    def on_tool_start(self, call_id: str, instance: object, inputs: Mapping[str, object]) -> None:
        """Record that a tool is about to run."""
        above = self._around()
        with isolate_recording_errors(_scope_of(above)):
            session = self.host.joined() if above is None else above.session
            if session is None:
                return
            run = self._runs[call_id] = _Run(instance, session, above)
            run.begins_sessions = True
            name = str(getattr(instance, "name", "tool"))
            # A program reads from a text which tool to call, so no id tells which answer asked.
            request = 0 if above is None else above.last_request
            run.tool = session.call_tool(name, None, task_of(inputs), request=request)
            run.outer_tool = current_tool.get()
            session.scope.hold()
            current_tool.set(run.tool.number)
            session.scope.recorder.commit()

    def on_tool_end(
        self, call_id: str, outputs: object, exception: BaseException | None = None
    ) -> None:
        """Record the result of a tool, or its failure."""
        run = self._runs.pop(call_id, None)
        if run is None or run.session is None or run.tool is None:
            return
        if current_tool.get() == run.tool.number:
            current_tool.set(run.outer_tool)
        with isolate_recording_errors(run.session.scope, failing=exception is not None):
            if exception is None:
                run.tool.returned(tool_message(outputs, run.tool.call_id))
            else:
                run.tool.failed(exception)
            run.session.scope.recorder.commit()


def _note_request(run: _Run, request: int) -> None:
    one: _Run | None = run
    while one is not None:
        one.last_request = request
        one = one.above


def _scope_of(run: _Run | None) -> SessionScope | None:
    return None if run is None or run.session is None else run.session.scope
