"""The report of a run: what it computed, put together as one HTML page and as JSON."""
