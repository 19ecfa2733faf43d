"""An exported file in the python backend of NVIDIA's Triton Inference Server; its inputs and outputs are those of the emitted config."""

import json
from pathlib import Path

import onnxruntime
import triton_python_backend_utils as server


class TritonPythonModel:
    """The server makes one a model instance."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        self.inputs, self.outputs = ([each["name"] for each in config[kind]] for kind in ("input", "output"))
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])

    def execute(self, requests):
        answers = []
        for request in requests:
            fed = {name: server.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
            found = zip(self.outputs, self.session.run(self.outputs, fed), strict=True)
            answers.append(server.InferenceResponse([server.Tensor(name, array) for name, array in found]))
        return answers
