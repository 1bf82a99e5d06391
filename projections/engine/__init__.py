"""Keeps rows up to date with the log, and rebuilds them.

projector         brings rows up to date, one process at a time
apply_events      applies events to views, and writes the changed rows
row_changes       collects what views change, and makes the SQL that writes it
checkpoints       the position up to which rows are built
session_contexts  finds the session that an event belongs to
rebuild           builds new rows beside the old ones
skip_damage       reads the log and skips damaged events
row_tables        what each database engine does in its own way, in sqlite/ and postgres/
optional_views    records which optional views a store has
unused_tables     removes the tables of old generations
"""
