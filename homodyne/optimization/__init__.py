"""Least squares on two-time data: accumulators, solver, errors. Sees arrays and a ``BlockSource``, never files."""
