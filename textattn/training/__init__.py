"""Fitting a model: optimiser, loss and the loop. No files, no printing."""
