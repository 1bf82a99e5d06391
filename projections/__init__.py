"""The middle layer: tables that are built from events alone.

    view       what a view is: a named, versioned set of tables
    views/     the views that lllm itself needs: sessions, tags, costs, calls
    engine/    brings rows up to date with the log, and builds them anew
    queries/   what is asked of the rows
    session/   one session made of its events, as a user looks at it

Imports the ground floor only.
"""
