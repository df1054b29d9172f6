"""Configuration: typed schema, checks after composition, and the only place that builds objects from it."""
