"""Errors that cover what they claim: the noise of speckle, what it does to a fit, and what the data leave open."""
