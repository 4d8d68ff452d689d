"""The network, which maps tensors to tensors: attention, encoders and the classifier. No files, no config objects."""
