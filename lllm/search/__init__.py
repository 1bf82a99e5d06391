"""Finds messages by the words in them; see `LogStore.search`."""

from lllm.search.hits import SearchHit as SearchHit
from lllm.search.hits import SearchHits as SearchHits
