"""The content of an exported file: its manifest, header and graph, read without onnx and without torch."""
