"""Files that GStreamer, DeepStream and Triton need beside an exported model."""
