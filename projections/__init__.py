"""The first floor: what the facts mean. Tables that are built from events, and from nothing else.

    view       what a view is: a named, versioned set of tables
    views/     the views that lllm itself needs: sessions, tags, costs, calls
    engine/    brings rows up to date with the log, and builds them anew
    queries/   what is asked of the rows
    session/   one session made of its events, as a user looks at it

Imports the ground floor only.
"""
