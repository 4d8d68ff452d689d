"""Files that outlive a process: runs, models and the cache. Nothing here depends on what a model computes."""
