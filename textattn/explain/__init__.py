"""Showing explanations."""
