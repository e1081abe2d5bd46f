"""Theory of learning rules, as functions: what simulations and experiments are held against.

- *One scalar layer* whose alignment loss moves both of its weights: `alignment_matrix`,
  `alignment_eigenvalues`, `alignment_stability`, `alignment_fixed_points`, `alignment_velocity`,
  `alignment_flow`, `alignment_trajectory`.
- *Two scalar layers* that learn a task with backprop, feedback alignment or symmetric alignment:
  `network_velocity`, `network_jacobian`, `network_eigenvalues`, `network_fixed_points`,
  `classify_eigenvalues`, `network_flow`, `network_trajectory`, `network_portrait`.
- *Backward weights of a linear layer*: `backward_fixed_point`, `backward_rates`, `backward_flow`,
  `backward_steps`, `largest_learning_rate`, `weight_mirror_alignment`, `kolen_pollack_contraction`.
- *Perturbation estimators*: `perturbed_loss_variance`, `perturbation_variance`,
  `perturbation_relative_error`, `weight_perturbation_error`, `node_perturbation_error`,
  `estimate_gradient`, `measure_perturbation`.

Rules are named as in `goaldriven.rules`, or given by the weights of their primitives
(`primitive_weights`). Arrays are NumPy's, tables xarray's; nothing here needs torch.

>>> from goaldriven.rules import theory
>>> theory.alignment_stability("weight_mirror", x=2.0, decay=1.0)
'exploding'
>>> theory.network_eigenvalues("feedback_alignment", (1.0, 1.0, -2.0)).tolist()
[-1.0, 0.0, 0.0]
"""

from goaldriven.rules.theory.arguments import primitive_weights
from goaldriven.rules.theory.linear_layer import (
    backward_fixed_point,
    backward_flow,
    backward_rates,
    backward_steps,
    kolen_pollack_contraction,
    largest_learning_rate,
    weight_mirror_alignment,
)
from goaldriven.rules.theory.perturbation import (
    estimate_gradient,
    measure_perturbation,
    node_perturbation_error,
    perturbation_relative_error,
    perturbation_variance,
    perturbed_loss_variance,
    weight_perturbation_error,
)
from goaldriven.rules.theory.scalar_layer import (
    AlignmentEigenvalues,
    alignment_eigenvalues,
    alignment_fixed_points,
    alignment_flow,
    alignment_matrix,
    alignment_stability,
    alignment_trajectory,
    alignment_velocity,
)
from goaldriven.rules.theory.scalar_network import (
    network_eigenvalues,
    network_fixed_points,
    network_flow,
    network_jacobian,
    network_portrait,
    network_trajectory,
    network_velocity,
)
from goaldriven.rules.theory.stability import classify_eigenvalues

__all__ = [
    "AlignmentEigenvalues",
    "alignment_eigenvalues",
    "alignment_fixed_points",
    "alignment_flow",
    "alignment_matrix",
    "alignment_stability",
    "alignment_trajectory",
    "alignment_velocity",
    "backward_fixed_point",
    "backward_flow",
    "backward_rates",
    "backward_steps",
    "classify_eigenvalues",
    "estimate_gradient",
    "kolen_pollack_contraction",
    "largest_learning_rate",
    "measure_perturbation",
    "network_eigenvalues",
    "network_fixed_points",
    "network_flow",
    "network_jacobian",
    "network_portrait",
    "network_trajectory",
    "network_velocity",
    "node_perturbation_error",
    "perturbation_relative_error",
    "perturbation_variance",
    "perturbed_loss_variance",
    "primitive_weights",
    "weight_mirror_alignment",
    "weight_perturbation_error",
]
