"""Archives: compressed files of whole sessions, which are read in place and never appended to."""
