"""Imports sessions from exported files and from other stores.

`merge` appends the events, `sources` opens what is imported, `source_checks` checks that its events
are intact, and `already_stored` finds the events that the store has already.
"""
