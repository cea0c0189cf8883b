"""How good a model is: lm-eval's tasks with BLiMP from its pack, loss and bits per byte, sample outputs."""
