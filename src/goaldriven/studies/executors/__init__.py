"""Where a study's networks are trained besides the local pool of `goaldriven.studies.runner`."""
