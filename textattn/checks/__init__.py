"""Describe what a config would train, on which data and for how long, and report what looks suspicious."""
