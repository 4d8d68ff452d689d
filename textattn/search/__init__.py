"""Search for better settings, and store the trials in a study."""
