"""Inference: a session that computes, and the classifier that people use."""
