"""Exported files in onnxruntime: sessions, providers, inputs and outputs, and the localizer. Without torch."""
