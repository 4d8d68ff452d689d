"""A search for better settings and the study that it keeps."""
