"""Simulated two-time data with known truth."""

from homodyne.simulate.two_time import two_time

__all__ = ["two_time"]
