"""A float model, wherever it is, becomes a directory of packed weights, one tensor in memory at a time."""
