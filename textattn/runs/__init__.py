"""One training run, from its config to a finished directory."""
