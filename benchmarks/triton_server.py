"""An exported file behind a real NVIDIA Triton Inference Server, on this machine's CPU: the emitted config, parity and latency.

    python -m venv triton && triton/bin/pip install nvidia-pytriton onnxruntime
    python benchmarks/triton_server.py triton [--backends FOLDER] [-o benchmarks/records/triton.json]

That wheel carries the server with its python backend alone. The emitted `config.pbtxt` names the onnxruntime backend: the server must read
it and miss nothing but that. With the backend's name exchanged and `scale_parts/triton_model.py` beside the file it must give the file's
own numbers, and is timed in turns with the file in this process.

With `--backends`, a folder that has the onnxruntime backend (docs/guide/pipelines.md says how it is built), the emitted repository runs as
it is, and requests of a file with its texts inside must be joined, and each answered as if it were alone.
"""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tritonclient.http as triton

from fastloc.bench import run_facts

HERE = Path(__file__).resolve().parent
ROUNDS, SHARES = 200, (20, 50, 80, 99)
# pictures of each of the requests that are there at once
COUNTS = (1, 2, 1, 3, 1, 1, 1, 1) * 4
# seconds until a server answers
PATIENCE = 60
MISSING = "unable to find backend library for backend 'onnxruntime'"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("environment", type=Path, help="a virtual environment with nvidia-pytriton and onnxruntime")
    parser.add_argument("--backends", type=Path, help="a folder with the onnxruntime backend, in place of the wheel's backends")
    parser.add_argument("-o", "--output", type=Path, help="the record to write")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {**run_facts.columns("cpu"), "commit": run_facts.commit(), **measured(args.environment, args.backends, Path(folder))}
    print(json.dumps(found, indent=2))
    if args.output:
        args.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def measured(environment: Path, backends: Path | None, folder: Path) -> dict[str, Any]:
    """Export, and compare and time the file behind the server."""
    config = exported(folder / "model.onnx")
    ready = repository(folder / "emitted", folder / "model.onnx", config) if backends else in_python(environment, folder, config)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    fed = inputs(session)
    with running(environment, backends, ready, folder) as client:
        server, backend = client.get_server_metadata()["version"], client.get_model_config("model")["backend"]
        asked = [_input(name, array) for name, array in fed.items()]
        errors = largest(client.infer("model", asked), session, fed)
        times: dict[str, list[float]] = {"triton": [], "session": []}
        for _ in range(ROUNDS):
            for name, call in (("triton", lambda: client.infer("model", asked)), ("session", lambda: session.run(None, fed))):
                begun = time.perf_counter()
                call()
                times[name].append(1000 * (time.perf_counter() - begun))
    spread = {name: {f"p{share}": round(float(np.percentile(each, share)), 3) for share in SHARES} for name, each in times.items()}
    more = {"joined": joined(environment, backends, folder / "joined")} if backends else {}
    return {"server": server, "backend": backend, "largest_error": errors, "rounds": ROUNDS, "ms": spread, **more}


def joined(environment: Path, backends: Path, folder: Path) -> dict[str, Any]:
    """Requests that are there at once, of a file that takes any number of pictures: how they were joined, and the largest error."""
    folder.mkdir()
    config = exported(folder / "model.onnx", "--batch", "dynamic", "--texts", "cat", "pizza")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    fed = [inputs(session, count, seed) for seed, count in enumerate(COUNTS)]
    with running(environment, backends, repository(folder / "emitted", folder / "model.onnx", config), folder) as client:
        asked = [client.async_infer("model", [_input(name, array) for name, array in each.items()]) for each in fed]
        errors = [largest(answer.get_result(), session, each) for answer, each in zip(asked, fed, strict=True)]
        counted = client.get_inference_statistics("model")["model_stats"][0]
    worst = {name: max(each[name] for each in errors) for name in errors[0]}
    return {"requests": len(fed), "pictures": counted["inference_count"], "batches": counted["execution_count"], "largest_error": worst}


def exported(file: Path, *options: str) -> str:
    """The config of the CLIP that ships with fastloc, exported."""
    subprocess.run([sys.executable, "-P", "-m", "fastloc", "export", "-o", file, "--for", "triton", *options], check=True)
    return file.with_name(f"{file.stem}.config.pbtxt").read_text(encoding="utf-8")


def in_python(environment: Path, folder: Path, config: str) -> Path:
    """A repository for the python backend, of a config that must lack nothing but its own backend."""
    refused = log_of(environment, repository(folder / "emitted", folder / "model.onnx", config))
    if MISSING not in refused:
        raise SystemExit(f"the server does not read the emitted config:\n{refused[-2000:]}")
    changed = re.sub(r"default_model_filename: .*\n", "", config.replace('"onnxruntime"', '"python"'))
    ready = repository(folder / "python", folder / "model.onnx", changed)
    shutil.copy(HERE / "scale_parts" / "triton_model.py", ready / "model" / "1" / "model.py")
    return ready


def largest(answer: Any, session: onnxruntime.InferenceSession, fed: dict[str, np.ndarray[Any, Any]]) -> dict[str, float]:
    """The largest difference from the session's own numbers, by output."""
    own = zip((each.name for each in session.get_outputs()), session.run(None, fed), strict=True)
    return {name: float(np.abs(answer.as_numpy(name) - array).max()) for name, array in own}


def repository(folder: Path, file: Path, config: str) -> Path:
    """A model repository with one model, `model`, in version 1."""
    (folder / "model" / "1").mkdir(parents=True)
    shutil.copy(file, folder / "model" / "1" / "model.onnx")
    (folder / "model" / "config.pbtxt").write_text(config, encoding="utf-8")
    return folder


def inputs(session: onnxruntime.InferenceSession, free: int = 2, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Normalised pixels and unit texts by a seed; `free` is the length of sides that are free."""
    random, fed = np.random.default_rng(seed), {}
    for each in session.get_inputs():
        array = random.normal(size=[side if isinstance(side, int) else free for side in each.shape]).astype(np.float32)
        fed[each.name] = array / np.linalg.norm(array, axis=-1, keepdims=True) if each.name == "text_embeddings" else array
    return fed


def _input(name: str, array: np.ndarray[Any, Any]) -> Any:
    made = triton.InferInput(name, array.shape, "FP32")
    made.set_data_from_numpy(array)
    return made


def command(environment: Path, backends: Path | None, models: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """The server's command line, and its environment."""
    site = next(environment.resolve().glob("lib/python3*/site-packages"))
    server, version = site / "pytriton" / "tritonserver", site.parent.name.removeprefix("python")
    stub = server / "backends" / "python" / "triton_python_backend_stub"
    if not stub.exists():
        shutil.copy(server / "python_backend_stubs" / version / stub.name, stub)
    root = environment.resolve()
    there = {**os.environ, "LD_LIBRARY_PATH": f"{site / 'nvidia_pytriton.libs'}", "PATH": f"{root}/bin:{os.environ['PATH']}",
             "VIRTUAL_ENV": str(root), "PYTHONPATH": str(site)}  # fmt: skip
    options = [f"--model-repository={models}", f"--backend-directory={backends or server / 'backends'}"]
    network = ["--http-address=127.0.0.1", f"--http-port={port}", "--allow-grpc=false", "--allow-metrics=false"]
    return [str(server / "bin" / "tritonserver"), *options, *network], there


def log_of(environment: Path, models: Path) -> str:
    """The log of a server that must end by itself."""
    line, there = command(environment, None, models, free_port())
    done = subprocess.run(line, env=there, capture_output=True, text=True, encoding="utf-8", timeout=PATIENCE, check=False)
    return done.stderr + done.stdout


@contextmanager
def running(environment: Path, backends: Path | None, models: Path, folder: Path) -> Iterator[Any]:
    """A client of a server that is ready."""
    port = free_port()
    line, there = command(environment, backends, models, port)
    with (folder / "server.log").open("w", encoding="utf-8") as log, subprocess.Popen(line, env=there, stdout=log, stderr=log) as process:
        client = triton.InferenceServerClient(f"127.0.0.1:{port}", concurrency=len(COUNTS))
        try:
            end = time.monotonic() + PATIENCE
            while not _is_ready(client):
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"the server does not start:\n{(folder / 'server.log').read_text(encoding='utf-8')[-2000:]}")
                time.sleep(0.2)
            yield client
        finally:
            # the server waits half a minute for connections that are open
            client.close()
            process.terminate()


def _is_ready(client: Any) -> bool:
    try:
        return bool(client.is_model_ready("model"))
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
