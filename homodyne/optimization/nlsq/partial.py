"""Sums over some of the panels of a pass: what threads, workers and machines add up."""

from __future__ import annotations

import dataclasses

import numpy as np

from homodyne.models import Model
from homodyne.optimization.gram import to_parameters
from homodyne.optimization.loss import TERMS
from homodyne.optimization.normal import PassSums, factors_from_moments


@dataclasses.dataclass(frozen=True)
class PartialSums:
    """Moments of the angles that some panels belong to; a commutative monoid under +, of at most O(n_phi p^2) numbers.

    Attributes:
        angles: positions of the angles, ascending, (m,).
        gram: ``Moments.gram`` of each, (m, q, q). counts: valid pairs, (m,).
        upper: R of every channel (see ``channels.orthogonalized``), (m, p_c, p_c) each; the same in all parts.
        terms: with a robust loss the sums of ``Loss.terms``, (m, 6); else None.
    """

    angles: np.ndarray
    gram: np.ndarray
    counts: np.ndarray
    upper: tuple[np.ndarray, ...]
    terms: np.ndarray | None = None

    @classmethod
    def zero(cls, model: Model, angles: np.ndarray, robust: bool) -> PartialSums:
        """Nothing summed yet."""
        q, m = sum(len(channel.parameters) for channel in model.channels) + 3, len(angles)
        upper = tuple(np.zeros((m, len(c.parameters), len(c.parameters))) for c in model.channels)
        terms = np.zeros((m, len(TERMS))) if robust else None
        return cls(angles, np.zeros((m, q, q)), np.zeros(m), upper, terms)

    def __add__(self, other: PartialSums) -> PartialSums:
        angles = np.union1d(self.angles, other.angles)
        mine, theirs = (np.searchsorted(angles, part.angles) for part in (self, other))

        def added(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            out = np.zeros((len(angles), *a.shape[1:]))
            out[mine] += a
            out[theirs] += b
            return out

        def joined(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            out = np.zeros((len(angles), *a.shape[1:]))
            out[theirs], out[mine] = b, a
            return out

        terms = None if self.terms is None or other.terms is None else added(self.terms, other.terms)
        upper = tuple(joined(a, b) for a, b in zip(self.upper, other.upper, strict=True))
        return PartialSums(angles, added(self.gram, other.gram), added(self.counts, other.counts), upper, terms)

    def of_all(self, model: Model, reference: np.ndarray) -> PassSums:
        """What a pass returns, when every angle is among the parts; ``reference`` as residuals were formed, (n_phi, 2)."""
        assert len(self.angles) == len(reference)
        factors = factors_from_moments(self.gram) @ to_parameters(model, self.upper)
        return PassSums(factors, self.counts, reference, self.terms)
