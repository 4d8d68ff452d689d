"""From labels and scores to numbers: metrics, calibration, comparisons, the linear baseline, plots."""
