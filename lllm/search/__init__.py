"""Finds messages by their words; see `LogStore.search`."""

from lllm.search.hits import SearchHit as SearchHit
from lllm.search.hits import SearchHits as SearchHits
