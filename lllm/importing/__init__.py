"""Imports sessions from exported files and from other stores.

`merge` does it; `sources` reads what is given, `source_checks` looks whether it is what was
written, and `already_stored` what this store has of it already.
"""
