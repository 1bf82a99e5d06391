"""The middle layer: tables that are built from events alone.

    view       what a view is: a named, versioned set of tables
    views/     the views that lllm itself needs, as sessions, tags, costs, calls, messages
    engine/    brings rows up to date with the log, and rebuilds them
    queries/   reads lists, sums and single sessions from the rows
    session/   builds one session from its events, for users to look at

Imports only the lowest layer, `lllm.events`.
"""
