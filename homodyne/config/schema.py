"""The schema: every key, its type, its default, and the values it may take.

These dataclasses are the one source of types. Hydra checks names and types against them while composing;
``metadata`` holds what Hydra cannot express: ``choices`` and open intervals ``above``/``below``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from homodyne.machine import granted_processors

SCALINGS = ("individual", "auto", "constant", "fourier")


def _choice(default: Any, *choices: str) -> Any:
    return field(default=default, metadata={"choices": choices})


def _number(default: Any, above: float | None = None, below: float | None = None) -> Any:
    return field(default=default, metadata={"above": above, "below": below})


@dataclass
class PriorConf:
    """What is known of one parameter before the data: ``kind``, and ``mean`` and ``sd`` of a normal one, in the parameter's unit."""

    kind: str = _choice("uniform", "uniform", "log_uniform", "normal")
    mean: float | None = _number(None, above=-math.inf)
    sd: float | None = _number(None, above=0.0)


@dataclass
class ModelConf:
    """The physics.

    ``start``, ``fixed``: value by parameter name; ``bounds``: [lower, upper] by parameter name. ``priors``, for
    ``strategy=nuts`` and ``cmc``: by parameter name, uniform within the bounds where none is given. ``file``: Python
    file with a function called ``name`` that returns your own model (docs/own_model.md).
    """

    _target_: str = "homodyne.models.get_model"
    name: str = MISSING
    file: str | None = None
    convention: str = _choice("physical", "physical", "homodyne-2")
    scaling: str = _choice("individual", *SCALINGS)
    start: dict[str, float] = field(default_factory=dict)
    fixed: dict[str, float] = field(default_factory=dict)
    bounds: dict[str, list[float]] = field(default_factory=dict)
    priors: dict[str, Any] = field(default_factory=dict)  # of PriorConf, which Hydra cannot add to key by key


@dataclass
class FileDatasetConf:
    """A file and what is selected from it; ``path`` may be a list, a folder or a pattern of several, which
    ``combine`` says are repetitions, whose mean is taken, or different sectors of one measurement. ``glob``: the files of a
    batch, one fit each (docs/batch.md).

    ``q`` [1/angstrom], a number, or a list for several rings in one fit; ``gap_angstrom`` [angstrom]; ``dt`` [s], only where the file lacks it, unless
    ``dt_s_override``; ``phi``: angles and [lo, hi] ranges [deg]; ``frames``: [first, last], inclusive, from 1;
    ``sigma``: a number, one per angle, or null for the file's, else estimated; ``phi_tolerance``,
    ``angle_tolerance`` [deg].
    """

    _target_: str = "homodyne.data.Dataset.open"
    path: Any = MISSING
    glob: Any = None
    engine: str | None = _choice(None, "apsu", "aps_legacy", "nxxpcs", "pychx", "netcdf", "npz", "zarr")
    q: Any = None
    q_tolerance: float = _number(0.05, above=0.0)
    gap_angstrom: float | None = _number(None, above=0.0)
    dt: float | None = _number(None, above=0.0)
    dt_s_override: bool = False
    phi: list[Any] | None = None
    phi_tolerance: float = _number(1.0, above=0.0)
    frames: list[int] | None = None
    min_lag: int = _number(1, above=0)
    sigma: Any = None
    angle_merge: str | None = _choice(None, "average", "drop")
    angle_tolerance: float = _number(1.0, above=0.0)
    combine: str = _choice("repetitions", "repetitions", "sectors")


@dataclass
class SyntheticDatasetConf:
    """Simulated data with known truth; units as above. ``theta`` replaces default parameter values by name."""

    _target_: str = "homodyne.simulate.synthetic.synthetic_dataset"
    model: str = _choice("laminar_flow", "static", "laminar_flow", "heterodyne", "kww")
    convention: str = _choice("physical", "physical", "homodyne-2")
    theta: dict[str, float] = field(default_factory=dict)
    n_phi: int = _number(10, above=0)
    n_t: int = _number(200, above=2)
    dt: float = _number(0.1, above=0.0)
    q: float = _number(0.0054, above=0.0)
    gap_angstrom: float = _number(2.0e6, above=0.0)
    contrast: float = _number(0.25, above=0.0)
    contrast_spread: float = _number(0.1, above=-1.0, below=1.0)
    noise: float = _number(0.005, above=0.0)
    seed: int = 0
    min_lag: int = _number(1, above=0)


@dataclass
class StrategyConf:
    """How the optimum is looked for and how the sums are taken; the objective is the same (docs/strategies.md).

    ``weighting`` of the pairs in the final estimate: auto, whitened, uniform (docs/whitened.md).
    The other keys belong to one strategy each, and null is its default. auto: ``force`` (CMA-ES wherever the widths of the
    bounds differ by more than 1000). multistart: ``starts`` compared, ``descents``, ``sampler``. cmaes_nlsq:
    ``population`` (of the first run), ``restarts``, ``seed``.

    nuts and cmc fit as auto does and then draw from the posterior (``homodyne.sample`` explains their keys): ``n_chains``,
    ``n_samples``, ``n_warmup``, ``likelihood``, ``seed``; cmc also ``shards``, ``max_points_per_shard``, ``n_workers``, ``combiner``.
    """

    name: str = _choice(
        "auto", "auto", "stratified_ls", "hybrid_streaming", "distributed", "cmaes_nlsq", "multistart", "nuts", "cmc"
    )
    weighting: str = _choice("auto", "auto", "whitened", "uniform")
    force: bool | None = None
    starts: int | None = _number(None, above=0)
    descents: int | None = _number(None, above=0)
    sampler: str | None = _choice(None, "sobol", "lhs")
    population: int | None = _number(None, above=3)
    restarts: int | None = _number(None, above=-1)
    seed: int | None = _number(None, above=-1)
    n_chains: int | None = _number(None, above=1)
    n_samples: int | None = _number(None, above=49)
    n_warmup: int | None = _number(None, above=49)
    likelihood: str | None = _choice(None, "honest", "iid")
    shards: Any = None
    max_points_per_shard: Any = None
    n_workers: int | None = _number(None, above=0)
    combiner: str | None = _choice(None, "importance", "gaussian")


@dataclass
class LocalClusterConf:
    """Workers on this machine for ``strategy=distributed``; see ``homodyne.cluster.local``."""

    _target_: str = "homodyne.cluster.local"
    n_workers: int | None = _number(None, above=0)
    memory_limit_gb: float | None = _number(None, above=0.0)
    dashboard: str = "127.0.0.1:8787"


@dataclass
class SlurmClusterConf:
    """Workers in jobs of SLURM; see ``homodyne.cluster.slurm``."""

    _target_: str = "homodyne.cluster.slurm"
    jobs: int = _number(4, above=0)
    workers_per_job: int = _number(16, above=0)
    memory_limit_gb: float | None = _number(None, above=0.0)
    walltime: str = "01:00:00"
    queue: str | None = None
    account: str | None = None
    interface: str | None = None
    directives: list[str] = field(default_factory=list)
    prologue: list[str] = field(default_factory=list)
    dashboard: str = "127.0.0.1:8787"


@dataclass
class AddressClusterConf:
    """A cluster that runs already, by the address of its scheduler; see ``homodyne.cluster.address``."""

    _target_: str = "homodyne.cluster.address"
    address: str = MISSING
    timeout_s: float = _number(30.0, above=0.0)


@dataclass
class AntiDegeneracyConf:
    """``per_angle_mode``, where set, replaces ``model.scaling``."""

    per_angle_mode: str | None = _choice(None, *SCALINGS)


@dataclass
class NlsqConf:
    """Solver settings, as ``homodyne.NLSQOptions`` explains them.

    ``memory_threshold_gb`` [GB = 2**30 bytes] replaces ``memory_fraction`` of the available memory.
    """

    memory_fraction: float = _number(0.75, above=0.0, below=1.0)
    memory_threshold_gb: float | None = _number(None, above=0.0)
    max_passes: int = _number(100, above=0)
    xtol: float = _number(1e-4, above=0.0)
    fourier_order: int = _number(2, above=-1)
    subset_frames: int = _number(128, above=15)
    precision: str = _choice("float64", "float64", "float32")
    loss: str = _choice("linear", "linear", "soft_l1", "huber", "cauchy")
    loss_scale: float = _number(3.0, above=0.0)
    anti_degeneracy: AntiDegeneracyConf = field(default_factory=AntiDegeneracyConf)


@dataclass
class OptaxConf:
    """First-order steps on a few frames before every local fit: an optimizer of optax by name, its arguments, how many."""

    name: str = "adam"
    arguments: dict[str, float] = field(default_factory=lambda: {"learning_rate": 0.02})
    steps: int = _number(100, above=0)


@dataclass
class OptimizationConf:
    """Which errors, whether a killed fit is resumed by the same command, and the least-squares solver.

    ``optimizer`` optax lets the steps of ``optax`` precede every local fit.
    ``counts`` (photons per pixel and frame) and ``pixels`` (independent ones per angle) are estimated where they are null.
    ``checkpoint`` keeps finished passes in ``outputs/checkpoints`` of the working directory until the fit has a result.
    """

    covariance: str = _choice("speckle", "speckle", "repetitions", "jackknife", "iid")
    counts: float | None = _number(None, above=0.0)
    pixels: float | None = _number(None, above=0.0)
    checkpoint: bool = False
    optimizer: str = _choice("gauss_newton", "gauss_newton", "optax")
    optax: OptaxConf = field(default_factory=OptaxConf)
    nlsq: NlsqConf = field(default_factory=NlsqConf)


@dataclass
class TrackingConf:
    """Where fits are recorded.

    ``uri`` null is the database ``outputs/mlflow.db``; ``artifacts`` null is the folder ``outputs/artifacts`` for
    that database and the server's own choice for a server.
    """

    _target_: str = "homodyne.tracking.NullTracker"
    uri: str | None = None
    artifacts: str | None = None
    experiment_name: str = "homodyne"
    run_name: str | None = None
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class XlaConf:
    """Settings of JAX and XLA for the kind of machine; ``homodyne-config-xla --show`` says what they are and do."""

    mode: str = _choice("none", "none", "auto", "cpu", "hpc", "gpu")


@dataclass
class WindowsConf:
    """Of ``+experiment=window_scan``: ``count`` windows over the frames ``first`` to ``last`` (null: of the file), neighbors
    sharing the part ``overlap`` of a window."""

    count: int | None = _number(None, above=1)
    overlap: float = 0.0
    first: int | None = _number(None, above=0)
    last: int | None = _number(None, above=0)


@dataclass
class BatchConf:
    """Of ``+experiment=batch``: ``name`` of its folder below outputs/batch (null: after the pattern); ``against``: what the figure
    is drawn against, a condition that the files hold, start_time or order (null: what differs)."""

    name: str | None = None
    against: str | None = None


@dataclass
class RootConf:
    """Everything one fit needs; ``mode`` plan says what a fit would do, and does not do it."""

    model: ModelConf = field(default_factory=ModelConf)
    dataset: Any = MISSING
    strategy: StrategyConf = field(default_factory=StrategyConf)
    cluster: Any = MISSING
    optimization: OptimizationConf = field(default_factory=OptimizationConf)
    tracking: TrackingConf = field(default_factory=TrackingConf)
    xla: XlaConf = field(default_factory=XlaConf)
    windows: WindowsConf = field(default_factory=WindowsConf)
    batch: BatchConf = field(default_factory=BatchConf)
    plots: bool = True
    mode: str = _choice("fit", "fit", "plan")


DATASETS = (FileDatasetConf, SyntheticDatasetConf)
CLUSTERS = (LocalClusterConf, SlurmClusterConf, AddressClusterConf)


def register() -> None:
    """Make the schema known to Hydra: ``root_schema`` for config.yaml, the others for the groups dataset and cluster.

    They belong to no group, so that ``--help`` does not offer them as choices.

    Also the resolvers ``folder_name``, which turns overrides into one path component, and ``frame_windows``, see
    ``config.windows``, and those of ``config.batch``.
    """
    store = ConfigStore.instance()
    root = _open(
        RootConf, "model.start", "model.fixed", "model.bounds", "model.priors", "tracking.tags",
        "optimization.optax.arguments",
    )  # fmt: skip
    store.store(name="root_schema", node=root, package="_global_")
    store.store(name="file_dataset_schema", node=FileDatasetConf)
    for name, node in (("local", LocalClusterConf), ("slurm", SlurmClusterConf), ("address", AddressClusterConf)):
        store.store(name=f"{name}_cluster_schema", node=node)
    store.store(name="synthetic_dataset_schema", node=_open(SyntheticDatasetConf, "theta"))
    OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
    OmegaConf.register_new_resolver("frame_windows", _frame_windows, replace=True)
    OmegaConf.register_new_resolver("granted_processors", granted_processors, replace=True)
    for name in ("batch_files", "batch_name", "file_folder"):
        OmegaConf.register_new_resolver(name, _of_batch(name), replace=True)


def _open(schema: type, *mappings: str) -> DictConfig:
    """The schema with mappings that take any key without a leading ``+``: ``model.start.D0=1e4``.

    Their names are checked later, against the parameters of the chosen model.
    """
    node = OmegaConf.structured(schema)
    for path in mappings:
        OmegaConf.set_struct(OmegaConf.select(node, path), False)
    return node


def _frame_windows(*, _root_: DictConfig) -> str:
    from homodyne.config.windows import swept_frames

    return swept_frames(_root_=_root_)


def _of_batch(name: str) -> Callable[..., str]:
    """A resolver of ``config.batch``, which is loaded on use."""

    def with_root(*, _root_: DictConfig) -> str:
        from homodyne.config import batch

        return {"batch_files": batch.swept_files, "batch_name": batch.batch_name}[name](_root_=_root_)

    def of_file(path: Any, overrides: str) -> str:
        from homodyne.config.batch import file_folder

        return file_folder(path, overrides)

    return of_file if name == "file_folder" else with_root


def folder_name(text: str, longest: int = 120) -> str:
    """``text`` without what a folder's name must not hold."""
    return re.sub(r"[^\w.=,+-]+", "_", text)[:longest].strip("_") or "default"
