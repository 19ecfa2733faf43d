"""From the functional ViT to files other runtimes read, installed as `fastloc.export`.

One format a file, named after what it makes (`to_onnx.py`), never after a module it needs. This file imports nothing, so
that `import fastloc.export` works where neither torch nor onnx is installed.
"""
