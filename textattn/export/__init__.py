"""A trained model made portable: an ONNX graph written from the weights, its int8 form, and one file to mail."""
