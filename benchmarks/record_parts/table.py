"""Every step that writes a measured record, in the order in which they run: what others wait for, and what takes little, first."""

from record_parts.step import OUT, Step

ENGINE = ("fastloc/engine", "fastloc/functional", "fastloc/recipes", "fastloc/checkpoints")
EXPORTED = ("export", "fastloc/runtime", "fastloc/onnx_file")
BENCH = (*ENGINE, *EXPORTED, "fastloc/bench")
# without quality.json, which is one of the records
MODEL = tuple(f"fastloc/embedded/{name}" for name in ("__init__.py", "model.safetensors", "open_clip_config.json", "eclip.safetensors"))
DEVICE = tuple(f"fastloc/embedded/device/{name}" for name in ("model.safetensors", "open_clip_config.json"))
ANSWERS = (*ENGINE, *MODEL, "fastloc/imaging", "fastloc/scale")
RECORDS, RESULTS = "benchmarks/records/", "benchmarks/results"
_FAMILIES = "PE-Core-B-16,EVA02-B-16,ViT-B-16-SigLIP2,MobileCLIP2-B,vit_medium_patch16_gap_256,coca_ViT-B-32,ViT-B-16"
_NEWER = "itsm,naclip,pearl,itaclip,cliper,sc_clip,sfp,gem"
# without grad-cam, whose spread is an hour's work
_PEERS = "gem_torch,gem_torch-newest,open_clip,legrad,clipseg,owlvit"
# the last commit that reads every answer off full maps
_FULL_MAPS = "0d34422f"
_RUNTIMES = ("openvino", "nncf")


def _bench(name: str, suites: str, options: str, seconds: int, writes: str = RESULTS, needs: tuple[str, ...] = ()) -> Step:
    command = ("-m", "fastloc.bench", "--suites", suites, *options.split(), "--device", "cpu", "--seconds", str(seconds), "-o", OUT)
    return Step(name, command, (writes,), BENCH, tuple(suites.split(",")), needs=needs, seconds=seconds)


def _script(name: str, command: str, record: str, code: tuple[str, ...], *, part: str = "", needs: tuple[str, ...] = (),
            timed: bool = False, seconds: int = 0) -> Step:  # fmt: skip
    arguments = tuple(command.split())
    own = (f"benchmarks/{arguments[0]}", *code)
    return Step(name, (f"benchmarks/{arguments[0]}", *arguments[1:]), (record,), own, part=part, needs=needs, timed=timed, seconds=seconds)


def _video(part: str, minutes: int, *, timed: bool = True) -> Step:
    code = (*ENGINE, "fastloc/video", "fastloc/runtime", "fastloc/imaging", "benchmarks/video_parts")
    command = f"video.py --parts {part} --minutes {minutes} --record" if timed else f"video.py --parts {part} --record"
    return _script(f"video-{part}", command, RECORDS + "video.json", code, part=part, needs=("av",), timed=timed, seconds=60 * minutes)


def _runtimes(part: str, *, timed: bool) -> Step:
    return _script(f"runtimes-{part}", f"runtimes.py --parts {part} --record", RECORDS + "runtimes.json",
                   (*ENGINE, *EXPORTED, "benchmarks/runtime_parts"), part=part, needs=_RUNTIMES, timed=timed)  # fmt: skip


STEPS = (
    # answers, which do not depend on what else the machine does
    _script("quality", "quality.py --record", "fastloc/embedded/quality.json", ANSWERS),
    _script("quality-device", "quality.py --model embedded-device --record", "fastloc/embedded/device/quality.json", (*ANSWERS, *DEVICE)),
    _script("precision", "quality_parts/precision.py --record", RECORDS + "precision.json", ANSWERS),
    _script("presence", "quality_parts/presence.py --record", RECORDS + "presence.json", ANSWERS),
    _script("refinements", "quality_parts/refinements.py --record", RECORDS + "refinements.json", ANSWERS),
    _script("onnx-parity", "onnx_parity.py --record", RECORDS + "onnx_parity.json", (*ANSWERS, *EXPORTED), needs=("onnxruntime",)),
    _runtimes("pointing", timed=False),
    _video("tracking", 0, timed=False),
    _script("kernels", "compile_kernels.py", RECORDS + "kernel_builds.json", ("kernels",), needs=("triton",)),
    # GEM and the encoder along each axis
    _bench("tokens", "tokens", "--models ViT-B-16 --vs gem_torch --backends torch", 1200, needs=("peers",)),
    _bench("batch", "batch", "--models ViT-B-16 --vs gem_torch --backends torch", 600, needs=("peers",)),
    _bench("texts-blocks", "texts,blocks", "--models ViT-B-16 --vs gem_torch --backends torch", 900, needs=("peers",)),
    # every method, every step of the way, every peer
    _bench("methods", "methods", "--models embedded,ViT-B-16@448 --methods all --backends torch", 900),
    # most of the time goes into exporting and quantising them
    _bench("methods-exported", "methods", "--models embedded,ViT-B-16@448 --methods all --backends ort,int8", 1800,
           needs=("onnxruntime",)),
    _bench("waterfall", "waterfall", "--models ViT-B-16@448", 600, needs=("onnxruntime",)),
    _bench("cold", "cold", "--models embedded,ViT-B-16@448", 60, needs=("onnxruntime",)),
    _bench("peers", "peers", f"--models ViT-B-16 --sizes 224,448 --vs {_PEERS} --backends torch,ort,int8", 1200,
           needs=("peers", "onnxruntime")),
    _bench("families", "methods", f"--models {_FAMILIES} --methods itsm,naclip,gem --backends torch,open_clip,embedding,ort", 1800,
           RECORDS + "families.jsonl", ("open_clip", "timm", "onnxruntime")),
    _bench("newer-rows", "methods", f"--models ViT-B-16 --sizes 448 --methods {_NEWER} --backends torch", 1200,
           RECORDS + "newer_rows.jsonl"),
    # what stands around the model
    _script("readouts-cost", f"readouts.py --against {_FULL_MAPS} --record", RECORDS + "readouts_cost.json",
            ("fastloc/imaging", "fastloc/results"), timed=True, seconds=600),
    _script("batching", "batching.py --seconds 900 --record", RECORDS + "batching.json",
            (*ENGINE, *EXPORTED, "fastloc/results", "fastloc/video"), needs=("onnxruntime", "av"), timed=True, seconds=900),
    _runtimes("speed", timed=True),
    _script("edge", "edge.py --record", RECORDS + "edge.json", (*ANSWERS, *EXPORTED, "fastloc/bench", "benchmarks/edge_parts"),
            needs=("onnxruntime", "open_clip", "timm"), timed=True, seconds=900),
    _runtimes("threads", timed=True),
    _script("onnx-latency", "onnx_parity.py --latency --record", RECORDS + "onnx_parity.json", (*ENGINE, *EXPORTED), part="latency",
            needs=("onnxruntime",), timed=True),
    _video("overhead", 10),
    _video("file", 2),
    _video("live", 10),
    _video("fast", 4),
    _script("scale", f"scale.py -o {RECORDS}scale.jsonl --minutes 20", RECORDS + "scale.jsonl",
            (*ENGINE, "fastloc/scale", "fastloc/serve", "fastloc/imaging", "benchmarks/scale_parts"), needs=("ray", "pyarrow", "httpx2"),
            timed=True, seconds=1200),
    _script("scale-soak", f"scale.py --parts soak -o {RECORDS}scale.jsonl --minutes 10", RECORDS + "scale.jsonl",
            (*ENGINE, "fastloc/serve", "benchmarks/scale_parts"), part="soak", needs=("pyarrow", "httpx2"), timed=True, seconds=600),
    _script("soak", "soak.py --record", RECORDS + "soak.json",
            (*ENGINE, "fastloc/live", "fastloc/serve", "fastloc/video", "fastloc/runtime", "fastloc/results", "benchmarks/soak_parts"),
            needs=("av", "httpx2", "onnxruntime", "starlette", "websockets"), timed=True, seconds=3600),
    # build times are of an idle machine too
    _script("engines", "build_engines.py --record", RECORDS + "engines.json", (*ENGINE, "export"),
            needs=("tensorrt_rtx",), timed=True, seconds=3000),
    _script("engine-families", "build_engines.py --families --record", RECORDS + "engine_families.json",
            (*ENGINE, "export"), needs=("tensorrt_rtx", "open_clip", "timm"), timed=True, seconds=500),
    _script("triton", f"triton_server.py {{server}} -o {RECORDS}triton.json", RECORDS + "triton.json",
            ("export/pipelines", "fastloc/onnx_file"), needs=("tritonclient", "server"), timed=True),
    Step("gpu", ("benchmarks/gpu.py",), (RESULTS,), (*ENGINE, "kernels", "benchmarks/gpu_parts"), ("gpu-speed",), needs=("gpu",),
         seconds=540),
    # models and photographs that the caller has
    _script("readouts-siglip", "quality_parts/readouts.py {towers}/siglip --record", RECORDS + "readouts.json", ANSWERS, part="siglip",
            needs=("towers",)),
    _script("readouts-pe", "quality_parts/readouts.py {towers}/pe --record", RECORDS + "readouts.json", ANSWERS, part="pe",
            needs=("towers",)),
    _script("examples", "quality_parts/examples.py --real {real} --record", RECORDS + "examples.json", ANSWERS, needs=("real",)),
    _script("temperature", "quality_parts/temperature.py --real {real} --photographs {photographs}", RECORDS + "temperature.json", ANSWERS,
            needs=("real", "photographs")),
    _script("temperature-grids", "quality_parts/temperature_grids.py --real {real} --others {others} --kept build/records/grids",
            RECORDS + "temperature_grids.json", ANSWERS, needs=("real", "others")),
    _script("search", "quality_parts/search.py --judge --real {real} --others {others}", RECORDS + "search.json", ANSWERS,
            needs=("real", "others")),
    _script("gallery", "gallery.py", RECORDS + "gallery.json", ANSWERS, needs=("chromium",)),
)  # fmt: skip
# records that no step writes: each is of a model that is made with it, or of another machine
ELSEWHERE = {
    "eclip_training.json": "written with the embedded model's vectors", "embedded_training.json": "written with the embedded model",
    "device_training.json": "written with the model for devices",
    "embedded_tuning.json": "written when its parameters are chosen", "device_tuning.json": "written when its parameters are chosen",
    "pythons.json": "written by `make matrix RECORD=1`, where there are Pythons", "steps.json": "written by `records.py` itself",
}  # fmt: skip
