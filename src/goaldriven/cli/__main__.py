"""``python -m goaldriven.cli``."""

from goaldriven.cli import main

main()
