"""Keeps rows up to date with the log, and rebuilds them.

projector         brings rows up to date, one process at a time
batches           applies the log to views, and writes what they changed
row_changes       collects what views change, and makes the SQL that writes it
tables            the tables of each generation
checkpoints       the position up to which rows are built
session_contexts  finds the session that an event belongs to
rebuild           builds new rows beside the old ones
"""
