"""Makes a trained model portable: as an ONNX graph, in int8, and as a bundle in a single file."""
