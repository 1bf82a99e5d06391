"""Imports sessions from exported files and from other stores.

`merge` does it; `sources` reads what is given, `refusals` looks whether it is what was
written, and `known_events` what this store has of it already.
"""
