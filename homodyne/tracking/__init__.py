"""Records of finished fits. Importing this costs nothing: MLflow is loaded when the first run is recorded."""

from homodyne.tracking.base import NullTracker, Tracker, Unrecorded
from homodyne.tracking.mlflow import MlflowTracker

__all__ = ["MlflowTracker", "NullTracker", "Tracker", "Unrecorded"]
