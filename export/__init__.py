"""Export of the functional ViT to files that other runtimes read, installed as `fastloc.export`.

Each module exports one format and is named after it (`to_onnx.py`), never after a module that it needs. This file imports nothing, so
that `import fastloc.export` works where neither torch nor onnx is installed.
"""
