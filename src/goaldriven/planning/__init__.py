"""What a study will cost before it is run: FLOPs, GPU-hours, memory, disk."""

from goaldriven.planning.estimate import NetworkCost, StudyPlan, plan_study
from goaldriven.planning.gpus import GPUS, Gpu

__all__ = ["GPUS", "Gpu", "NetworkCost", "StudyPlan", "plan_study"]
