"""Models of synaptic dynamics: from sizes of synapses over days to the rule they follow."""
