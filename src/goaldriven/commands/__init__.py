"""What the command line's commands do, one file per kind; only `goaldriven.cli` imports these."""
