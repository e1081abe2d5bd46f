"""Synaptic dynamics: the rule that sizes of synapses follow from one session to the next.

Everything works on arrays ``w`` (synapse, day), NaN = not observed and 0 = absent, with ``days``
and ``clusters`` (the dendrites); `weights_of` takes them from a table.

- tables: `make_table`, `read_table`, `write_csv`, `write_nwb`, `load_demo`, `weights_of`
- preparation: `normalise`, `status`, `consecutive_pairs`, `regular_days`, `middle_half`
- description: `weight_changes`, `changes_by_interval`, `survival`, `turnover`, `aligned`,
  `compare_distributions`, `lognormality_test`
- Markov: `fit_markov`, `equal_width_bins`, `quantile_bins`, `choose_bins`, `stationarity`,
  `convergence`, `simulate_sizes`, `cross_correlation`, `compare_correlations`,
  `predict_survival`, `chain_states`, `order_test`, `goodness_of_fit`, `memory`; `chains`
- Kesten: `fit_kesten`, `binned_moments`, `likelihood_ratio`, `noise_from_repeats`,
  `stationary_moments`, `tail_exponent`, `simulate_kesten`
- which rule: `compare_models`
- networks: `network_weights`, `fit_networks`
- all of it: `analyse`

Names are loaded on first use.

Source: Melander, Nayebi et al. 2021, Cell Reports 37, 109972; thesis §6.2.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME: dict[str, str] = {
    **dict.fromkeys(
        ("Weights", "from_frame", "groups_of", "keep_common_sessions", "make_table",
         "select_group", "to_frame", "weights_of"),
        "table",
    ),
    **dict.fromkeys(("read_table", "write_csv", "write_netcdf"), "files"),
    **dict.fromkeys(("read_nwb", "write_nwb"), "nwb"),
    "load_demo": "published",
    **dict.fromkeys(
        ("Status", "consecutive_pairs", "middle_half", "normalise", "persistent", "regular_days",
         "status"),
        "preparation",
    ),
    **dict.fromkeys(
        ("aligned", "changes_by_interval", "survival", "turnover", "weight_changes"),
        "descriptive",
    ),
    **dict.fromkeys(
        ("compare_distributions", "fit_lognormal", "lognormality_test"), "distribution"
    ),
    **dict.fromkeys(("Bins", "equal_width_bins", "quantile_bins"), "states"),
    "choose_bins": "bin_selection",
    **dict.fromkeys(("MarkovFit", "convergence", "fit_markov", "stationarity"), "markov"),
    **dict.fromkeys(
        ("compare_correlations", "cross_correlation", "predict_survival", "simulate_sizes",
         "survival_curve"),
        "markov_predictions",
    ),
    **dict.fromkeys(("chain_states", "goodness_of_fit", "memory", "order_test"), "markov_tests"),
    **dict.fromkeys(
        ("KestenFit", "binned_moments", "fit_kesten", "likelihood_ratio", "noise_from_repeats",
         "stationary_moments", "tail_exponent"),
        "kesten",
    ),
    "simulate_kesten": "kesten:simulate",
    "compare_models": "comparison",
    **dict.fromkeys(("fit_networks", "network_weights"), "networks"),
    **dict.fromkeys(("Analysis", "analyse"), "analysis"),
}  # fmt: skip
_MODULES = ("chains", "table", "preparation", "descriptive", "markov", "kesten", "comparison")

__all__ = sorted([*_HOME, *_MODULES])  # spelled out above, by family


def __getattr__(name: str) -> Any:
    if name in _HOME:
        module, _, original = _HOME[name].partition(":")
        value = getattr(importlib.import_module(f"{__name__}.{module}"), original or name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
