"""Memory of a consensus run: what the draws and the shards take, and what the processes themselves do."""

from __future__ import annotations

import dataclasses

GB = 2**30
# A worker with JAX, numpyro and compiled code, and what compiling takes on top; measured, see experiments/posterior.
WORKER_GB = 0.9


@dataclasses.dataclass(frozen=True)
class CmcMemory:
    """Predicted memory in GB (2**30 bytes).

    Attributes:
        shards_gb: n_workers x shard_size x n_params numbers, what shards of that many points would take.
        results_gb: n_shards x n_chains x n_samples x n_params numbers, the draws.
        overhead_gb: of the worker processes, which is nearly all of it.
    """

    shards_gb: float
    results_gb: float
    overhead_gb: float

    @property
    def total_gb(self) -> float:
        """Everything."""
        return self.shards_gb + self.results_gb + self.overhead_gb


def estimate_cmc_memory_gb(
    n_workers: int, shard_size: int, n_params: int, n_shards: int, n_chains: int = 4, n_samples: int = 1500
) -> CmcMemory:
    """Memory of Consensus Monte Carlo.

    Args:
        n_workers: processes at a time. shard_size: points of a shard. n_params: physical and scaling parameters of one
            sector. n_shards, n_chains, n_samples: of the run.
    """
    return CmcMemory(
        8 * n_workers * shard_size * n_params / GB,
        8 * n_shards * n_chains * n_samples * n_params / GB,
        n_workers * WORKER_GB,
    )
