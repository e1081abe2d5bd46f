"""Scores with a known truth."""

from __future__ import annotations

import numpy as np

RULES = ("adam", "fa", "ia", "sgdm")


def calibrated(rng, n, n_rules=4, concentration=0.5):
    """Probabilities from a Dirichlet distribution, and truth drawn from these very numbers."""
    p = rng.dirichlet(np.full(n_rules, concentration), n)
    truth = (rng.random(n)[:, None] > np.cumsum(p, axis=1)[:, :-1]).sum(axis=1)
    return p, truth


def tempered(p, temperature):
    """p^(1/T), normalised: surer than p where T < 1."""
    logs = np.log(p) / temperature
    raised = np.exp(logs - logs.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def layered(rng, n_networks, n_layers=6, signal=1.5, shared=1.0, own=0.5, n_rules=4):
    """Scores (example, rule), truth and networks: layers share most of their network's noise."""
    truth = np.arange(n_networks) % n_rules
    logits = signal * np.eye(n_rules)[truth] + shared * rng.normal(size=(n_networks, n_rules))
    noise = own * rng.normal(size=(n_networks, n_layers, n_rules))
    raised = np.exp(logits[:, None] + noise)
    scores = (raised / raised.sum(axis=2, keepdims=True)).reshape(-1, n_rules)
    return scores, np.repeat(truth, n_layers), np.repeat(np.arange(n_networks), n_layers)
