"""Tensors in, tensors out: attention mechanisms, the recurrent encoder, the classifier. No files, no config objects."""
