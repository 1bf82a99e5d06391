"""Imports sessions from exported files and from other stores.

`merge` appends the events, `sources` opens what is imported, `refusals` refuses sessions whose
events are not intact, and `already_stored` finds the events that the store has already.
"""
