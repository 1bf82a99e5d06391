"""Keeps rows up to date with the log, and rebuilds them.

projector         catches up, one process at a time
batches           applies the log to views, and writes what they changed
row_changes       what views changed, and the statements that write it
tables            the tables of each generation
checkpoints       how far the rows are
session_contexts  which session an event belongs to
rebuild           new rows beside the old
"""
