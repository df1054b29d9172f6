"""Command-line tools beside the training command."""
