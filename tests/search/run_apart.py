"""A run in a process of its own: run_apart.py SEARCH.json OUT [DATABASE URL]; prints its events."""

from __future__ import annotations

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    import search_scorers

    from goaldriven.search import SearchFolder
    from goaldriven.search.runner import run_search
    from goaldriven.specs.search import SearchSpec

    fields, out, *url = sys.argv[1:]
    storage = url[0] if url else None
    search = SearchSpec(**json.loads(Path(fields).read_text()))
    run_search(
        SearchFolder.create(out, search, storage),
        jobs=0,
        storage=storage,
        scorer=search_scorers.slow,
        report=lambda event: print(event.kind, event.number, flush=True),
    )
