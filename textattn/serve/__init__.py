"""A loaded model behind HTTP: predictions, explanations and vectors as JSON, a page to try it, and metrics.

Needs the extra `serve`; only `textattn serve` imports this package. Nothing here imports torch.
"""
