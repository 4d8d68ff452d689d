"""Fit a model: optimiser, loss and training loop. Nothing here reads or writes files, or prints."""
