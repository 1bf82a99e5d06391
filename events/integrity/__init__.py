"""Whether a log holds what was written to it, and how a damaged one is mended."""
