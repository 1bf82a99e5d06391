"""lllm measured beside its peers, each in an environment and a process of its own."""

from benchmarks.peers.comparisons import figures as figures
