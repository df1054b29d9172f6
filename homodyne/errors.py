"""The one exception for bad input: it names the field, the value and the remedy."""

from __future__ import annotations


class InputError(ValueError):
    """A value the user gave, or a file contains, cannot be used.

    The message always has the form ``field=value problem; remedy``, so that it can be acted upon without
    reading a traceback.

    Args:
        field: name of the offending field as the user knows it (``dataset.dt``, ``start['D0']``).
        value: the offending value.
        problem: what is wrong with it (``must be positive``).
        remedy: what to do about it (``set dataset.dt to the frame spacing in seconds``).
    """

    def __init__(self, field: str, value: object, problem: str, remedy: str) -> None:
        self.field = field
        self.value = value
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{field}={value!r} {problem}; {remedy}")

    def __reduce__(self) -> tuple[type[InputError], tuple[str, object, str, str]]:
        """Survive the trip between processes (multirun launchers pickle exceptions)."""
        return type(self), (self.field, self.value, self.problem, self.remedy)
