"""Evaluation of predictions: metrics, calibration, comparisons of runs, the linear baseline, and plots."""
