"""Simulated two-time data with known truth."""

from homodyne.simulate.particles import particle_maps
from homodyne.simulate.speckle import speckle_dataset, speckle_maps
from homodyne.simulate.two_time import two_time

__all__ = ["particle_maps", "speckle_dataset", "speckle_maps", "two_time"]
