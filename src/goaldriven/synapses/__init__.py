"""Synaptic dynamics: rules that weights follow from one observation to the next."""
