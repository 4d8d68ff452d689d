"""Files that outlive a process: runs, models, the cache. Nothing here knows what a model computes."""
