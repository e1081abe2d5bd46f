"""The README's figure, from a study that has been run and identified.

python docs/make_figures.py results/demo
"""

from __future__ import annotations

import sys
from pathlib import Path

from goaldriven.report import figures
from goaldriven.report.identified import read_results

if __name__ == "__main__":
    results = read_results(Path(sys.argv[1]))
    if results is None:
        sys.exit("identify the study first")
    figure = figures.accuracy(results.accuracy)
    out = Path(__file__).parent / "figures" / "accuracy.png"
    figure.savefig(out, dpi=150, bbox_inches="tight")
    print(out)
