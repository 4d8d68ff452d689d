"""What a config would train, on what data, for how long, and what is suspicious about it."""
