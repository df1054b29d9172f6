"""What becomes of each key of an older configuration: tables only.

The keys are those of homodyne 2.x (its master, static and laminar-flow templates), of xpcsjax, which took them over, and
of homodyne-analysis 0.6 to 1.x (JSON). Keys that are translated are named where they are translated
(``homodyne.cli.migration``); here are those that have no counterpart, with the reason, by longest matching prefix.
"""

from __future__ import annotations

#: Older parameter names and ours.
PARAMETER_NAMES = {
    "gamma_dot_t0": "gamma_dot_0",
    "gamma0": "gamma_dot_0",
    "gamma_dot_t_offset": "gamma_dot_offset",
    "gamma_offset": "gamma_dot_offset",
    "phi_0": "phi0",
}

#: Parameters whose value depends on the convention of the shear term.
SHEAR_RATES = ("gamma_dot_0", "gamma_dot_offset")

_SAMPLING = "chains are set by strategy.n_chains, n_samples and n_warmup (docs/bayesian_inference.md); their defaults usually do"
_GAUSS_NEWTON = (
    "belongs to another solver; here Gauss-Newton steps are judged in standard errors (optimization.nlsq.xtol) "
    "and three to ten passes are usual"
)
_ANGLES = "angles are selected by dataset.phi; a range that matches no angle is an error, never a silent fallback"
_MEMORY = "blocks and strategy follow from the memory limit alone (docs/large_data.md)"
_RECORD = "results are in outputs/ (or hydra.run.dir): result.nc, config.yaml, fit.log, figures/, and in MLflow"
_QUALITY = "homodyne-inspect surveys the file; a fit says in its findings what residuals show"
_FIGURES = "figures have one style; data and model share a color range taken from the data"
_LINEAR = "contrast and offset are linear: their best values are computed at every step, so start, bounds and priors do nothing"
_ABSORBED = (
    "with contrast and offset eliminated exactly there is no degeneracy to defend against, at any number of angles"
)
_CACHE = "files are read lazily; homodyne-convert writes a NetCDF file where faster reading pays"
_CLASSICAL = "one solver and one objective here; robust losses are explicit options, never other methods"
_TEXT = "describes the file to its reader only"

#: Prefix of a dotted key -> why it has no counterpart.
NO_COUNTERPART = {
    "metadata": _TEXT,
    "config_version": _TEXT,
    "analysis_settings": "the model is chosen by analysis_mode (here model=static or model=laminar_flow)",
    "analyzer_parameters.temporal": "the same keys outside of temporal come first",
    "analyzer_parameters.wavevector_q": "the key below scattering comes first",
    "analyzer_parameters.geometry.beam_size": "does not enter c2(t1, t2)",
    "analyzer_parameters.computational": "threads follow the processor affinity (taskset, batch system)",
    "analyzer_parameters.temporal.dt_unit": "dataset.dt is in seconds",
    "analyzer_parameters.temporal.frame_description": _TEXT,
    "analyzer_parameters.scattering.q_unit": "dataset.q is in 1/angstrom",
    "analyzer_parameters.scattering.typical_range": _TEXT,
    "analyzer_parameters.geometry.gap_unit": "dataset.gap_angstrom is in angstrom",
    "analyzer_parameters.geometry.gap_in_microns": "dataset.gap_angstrom is in angstrom",
    "experimental_data.phi_angles_path": "angles are read from the data file, with the matrix they belong to",
    "experimental_data.phi_angles_file": "angles are read from the data file, with the matrix they belong to",
    "experimental_data.phi_angles_manual": "angles are read from the data file, with the matrix they belong to",
    "experimental_data.cache_file_path": _CACHE,
    "experimental_data.cache_directory": _CACHE,
    "experimental_data.cache_filename_template": _CACHE,
    "experimental_data.cache_compression": _CACHE,
    "experimental_data.use_caching": _CACHE,
    "experimental_data.data_type": "sums are in double precision, data stay as stored",
    "experimental_data.file_format": "the format is recognized by content (dataset=auto)",
    "experimental_data.exchange_key": "the layout is recognized by content (dataset=auto)",
    "experimental_data.preprocessing": "data are fitted as stored; the diagonal is never used, so it needs no correction",
    "phi_filtering": _ANGLES,
    "initial_parameters.per_angle_scaling": _LINEAR,
    "initial_parameters.units": "units are fixed: angstrom^2/s, 1/s, degree",
    "initial_parameters.parameter_units": "units are fixed: angstrom^2/s, 1/s, degree",
    "initial_parameters.physical_meaning": _TEXT,
    "initial_parameters.model_equations": _TEXT,
    "initial_parameters.parameter_estimation_tips": _TEXT,
    "parameter_space.priors": "priors are uniform within the bounds, or model.priors.NAME={kind: normal, mean: …, sd: …}",
    "parameter_space.model": "the model is chosen by analysis_mode (here model=static or model=laminar_flow)",
    "optimization.lsq": _GAUSS_NEWTON,
    "optimization.nlsq.enabled": "least squares is what is always fitted",
    "optimization.nlsq.workflow": _MEMORY,
    "optimization.nlsq.goal": "there is one goal; optimization.nlsq.xtol says how far below an error the last step must be",
    "optimization.nlsq.max_iterations": _GAUSS_NEWTON,
    "optimization.nlsq.tolerance": _GAUSS_NEWTON,
    "optimization.nlsq.ftol": _GAUSS_NEWTON,
    "optimization.nlsq.xtol": _GAUSS_NEWTON,
    "optimization.nlsq.gtol": _GAUSS_NEWTON,
    "optimization.nlsq.method": _GAUSS_NEWTON,
    "optimization.nlsq.trust_region_scale": _GAUSS_NEWTON,
    "optimization.nlsq.x_scale": "every parameter has its scale, and steps are measured in standard errors",
    "optimization.nlsq.x_scale_map": "every parameter has its scale, and steps are measured in standard errors",
    "optimization.nlsq.verbose": "one line is logged per pass",
    "optimization.nlsq.progress": "one line is logged per pass, more where a pass lasts long",
    "optimization.nlsq.diagnostics": _QUALITY,
    "optimization.nlsq.quality_validation": _QUALITY,
    "optimization.nlsq.hybrid_streaming": _MEMORY,
    "optimization.nlsq.anti_degeneracy": _ABSORBED,
    "optimization.nlsq.multi_start": "every search has its own settings",
    "optimization.nlsq.cmaes": "every search has its own settings",
    "optimization.streaming": _MEMORY,
    "optimization.stratification": _MEMORY,
    "optimization.sequential": "angles are always fitted together",
    "optimization.recovery": "a rejected step shrinks the trust region; how a fit ended is told by its status",
    "optimization.angle_filtering": _ANGLES,
    "optimization.mcmc": _SAMPLING,
    "optimization.cmc": _SAMPLING,
    "optimization.vi": _SAMPLING,
    "optimization.hybrid": _SAMPLING,
    "noise_estimation": "sigma is taken from the file, from dataset.sigma, or estimated from differences at far lags",
    "performance": _MEMORY,
    "logging": "the console has the log, fit.log of the run folder the same with time stamps",
    "quality_control": _QUALITY,
    "plotting": _FIGURES,
    "output": _RECORD,
    "validation": "settings are always checked, and anything wrong is an error that names the key",
    "optimization_config.angle_filtering": _ANGLES,
    "optimization_config.classical_optimization": _CLASSICAL,
    "optimization_config.robust_optimization": _CLASSICAL,
    "optimization_config.mcmc_sampling": _SAMPLING,
    "optimization_config.scaling_parameters": _LINEAR,
    "advanced_settings": "the integrals are trapezoidal sums on the frame grid, the diagonal is never fitted",
    "performance_settings": _MEMORY,
    "validation_rules": _QUALITY,
    "workflow_integration": _RECORD,
    "output_settings": _RECORD,
}


def reason_for(key: str) -> tuple[str, str] | None:
    """The longest prefix in ``NO_COUNTERPART`` that covers the key, and its reason; None for an unknown key."""
    parts = key.split(".")
    for n in range(len(parts), 0, -1):
        prefix = ".".join(parts[:n])
        if prefix in NO_COUNTERPART:
            return prefix, NO_COUNTERPART[prefix]
    return None
