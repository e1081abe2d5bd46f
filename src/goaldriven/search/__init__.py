"""Searches: which settings of a rule, or of anything in a network, score best."""

from goaldriven.search.files import load_search, shipped_searches
from goaldriven.search.folder import SearchFolder

__all__ = ["SearchFolder", "load_search", "shipped_searches"]
