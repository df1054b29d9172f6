"""Whitened fits: least squares that knows how the noise of pairs is shared, with errors of its own."""
