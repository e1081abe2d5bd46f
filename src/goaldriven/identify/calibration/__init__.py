"""How sure can one be of a rule? Calibration, conformal sets, "none of these", degeneracy.

Functions on arrays of scores (row, rule). A network's score is the mean over its layers
(`average_over_layers`), and intervals and tests have networks as their units.
"""

from goaldriven.identify.calibration.conformal import (
    ConformalSets,
    conformal_p_values,
    conformal_report,
    conformal_sets,
    networks_needed,
)
from goaldriven.identify.calibration.degeneracy import (
    PairCalls,
    degeneracy_of_pairs,
    degeneracy_table,
    degenerate_groups,
    holm,
)
from goaldriven.identify.calibration.distances import (
    DISTANCES,
    Distances,
    feature_distances,
    network_folds,
)
from goaldriven.identify.calibration.networks import (
    average_over_layers,
    bootstrap_by_network,
    first_of_each,
    mean_of_rates,
    wilson,
)
from goaldriven.identify.calibration.open_set import (
    NONE,
    none_of_these,
    novelty_p_values,
    open_set_metrics,
)
from goaldriven.identify.calibration.recalibration import (
    Temperature,
    before_and_after,
    calibrated_probabilities,
    calibration_table,
    fit_temperature,
)
from goaldriven.identify.calibration.reliability import (
    CalibrationError,
    calibration_error,
    expected_calibration_error,
    reliability_curve,
)
from goaldriven.identify.calibration.scores import (
    BrierParts,
    brier_decomposition,
    brier_score,
    log_score,
)

__all__ = [
    "DISTANCES",
    "NONE",
    "BrierParts",
    "CalibrationError",
    "ConformalSets",
    "Distances",
    "PairCalls",
    "Temperature",
    "average_over_layers",
    "before_and_after",
    "bootstrap_by_network",
    "brier_decomposition",
    "brier_score",
    "calibrated_probabilities",
    "calibration_error",
    "calibration_table",
    "conformal_p_values",
    "conformal_report",
    "conformal_sets",
    "degeneracy_of_pairs",
    "degeneracy_table",
    "degenerate_groups",
    "expected_calibration_error",
    "feature_distances",
    "first_of_each",
    "fit_temperature",
    "holm",
    "log_score",
    "mean_of_rates",
    "network_folds",
    "networks_needed",
    "none_of_these",
    "novelty_p_values",
    "open_set_metrics",
    "reliability_curve",
    "wilson",
]
