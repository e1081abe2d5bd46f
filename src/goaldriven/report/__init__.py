"""The report: a study folder → one self-contained HTML page.

`figures` draws tidy tables and can be used by itself; `tables` makes them from trajectories.
"""

from goaldriven.report.write import write_report

__all__ = ["write_report"]
