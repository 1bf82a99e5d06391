"""Begins the sessions in which a framework's runs are recorded."""

from __future__ import annotations

from collections.abc import Mapping

from lllm.instrumentation.frameworks.framework_session import FrameworkSession
from lllm.instrumentation.session_resolver import SessionResolver
from lllm.sessions.budget import Budget
from lllm.sessions.current_session import running_session
from lllm.sessions.host import SessionHost
from lllm.sessions.new_session import open_session
from lllm.sessions.session import SessionScope
from lllm.store.log_store import LogStore, session_host


class FrameworkHost:
    """Begins the sessions of one framework, as long as it is instrumented.

    Args:
        framework: The framework's name, such as "langchain".

    Attributes:
        framework: The framework's name.
        is_on: True while the framework is instrumented.
        provider: The provider that bills calls to unknown addresses; None if the user named none.
    """

    def __init__(self, framework: str) -> None:
        self.framework = framework
        self.is_on = False
        self.provider: str | None = None
        self._store: LogStore | None = None
        self._resolver = SessionResolver(None)

    def turn_on(self, store: LogStore | None, provider: str | None) -> None:
        """Begin to record.

        Args:
            store: The store for runs outside of any session; None leaves these unrecorded.
            provider: The provider that bills calls to unknown addresses; None if it is not known.
        """
        self._store, self.provider = store, provider
        self._resolver = SessionResolver(store)
        self.is_on = True

    def turn_off(self) -> None:
        """Stop recording; runs in progress are recorded to their end."""
        self.is_on = False

    def begin(
        self, name: str, *, task: object, tags: Mapping[str, str], metadata: object
    ) -> FrameworkSession | None:
        """Begin the session of a run, as a child of the current session if there is one.

        Args:
            name: The run's name in the framework.
            task: The input of the run.
            tags: The tags of the session.
            metadata: What the user has attached to the run; None for nothing.

        Returns:
            The session, whose first event is staged; None if the run is not recorded.
        """
        above = running_session()
        open_above = above if above is not None and above.recorder.is_open else None
        store = self._store
        host: SessionHost
        if open_above is not None:
            host = open_above.host
        elif store is not None:
            host = session_host(store)
        else:
            self._resolver.session_of(self.framework)  # it warns once
            return None
        scope = open_session(
            host, f"{self.framework}::{name}", task=task, tags=tags, metadata=metadata,
            partition=None, budget=Budget(),
        )  # fmt: skip
        scope.begin_apart()
        return FrameworkSession(scope, alone=True)

    def join(self, name: str, tags: Mapping[str, str] | None = None) -> FrameworkSession | None:
        """Find or begin the session of a single model call, as a captured client does.

        Args:
            name: The name of the model's class, or of the function that calls it.
            tags: The tags of the session, if one is begun.

        Returns:
            The current session, or one that was begun for this call; None if it is not recorded.
        """
        scope, alone = self._resolver.session_of(f"{self.framework}.{name}", tags)
        if scope is None:
            return None
        if alone:
            scope.begin_apart()
            return FrameworkSession(scope, alone=True)
        return _hooked(scope)

    def joined(self) -> FrameworkSession | None:
        """Find the current session, for a tool that runs outside of any run of the framework.

        Returns:
            The session; None outside of any.
        """
        above = running_session()
        return _hooked(above) if above is not None and above.recorder.is_open else None


def _hooked(scope: SessionScope) -> FrameworkSession:
    if scope.hooked is None:
        scope.hooked = FrameworkSession(scope, alone=False)
    return scope.hooked
