"""The first floor: what the facts mean. Tables that are built from events, and from nothing else.

`view` says what a view is, `rows` keeps its tables, `projector` brings them up to date and
`rebuild` makes them anew. `sessions`, `tags`, `costs` and `calls` are the views that lllm itself
needs, `queries` reads them, and `call_session` folds the events of one session into the object that
a user looks at.

Imports the ground floor only.
"""
