"""Optional packages and the extras of fastloc that bring them."""

# package -> the extra that brings it
EXTRAS = {
    **dict.fromkeys(("torch", "torchvision", "open_clip", "timm", "safetensors", "huggingface_hub", "ftfy", "regex"), "engine"),
    **dict.fromkeys(("onnx", "onnx_ir", "onnxscript"), "export"),
    **dict.fromkeys(("onnxruntime", "tokenizers"), "onnx-cpu"),
    "openvino": "openvino",
    "av": "video",
    **dict.fromkeys(("starlette", "uvicorn", "websockets"), "live"),
    "supervision": "supervision",
    **dict.fromkeys(("pyarrow", "fsspec", "pycocotools"), "scale"),
    "ray": "ray",
    **dict.fromkeys(("python_multipart", "prometheus_client"), "serve"),
    **dict.fromkeys(("sklearn", "h5py"), "evaluate"),
    "httpx2": "client",
}
