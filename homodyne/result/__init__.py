"""What a fit returns, saved and read as one NetCDF file."""

from homodyne.result.fit_result import HISTORY_VARIABLES, FitResult
from homodyne.result.profile import Profile
from homodyne.result.records import AngleMap, Decision, Memory, Status, Uncertainty, Weighting

__all__ = [
    "HISTORY_VARIABLES",
    "AngleMap",
    "Decision",
    "FitResult",
    "Memory",
    "Profile",
    "Status",
    "Uncertainty",
    "Weighting",
]
