"""goaldriven: goal-driven networks under any learning rule, measured and identified."""

__version__ = "0.1.0"
