"""Posteriors: what data, model and priors together say about the parameters, as draws."""
