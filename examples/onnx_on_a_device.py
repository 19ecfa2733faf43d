"""Locate texts by an exported file on a device without torch: numpy, Pillow and onnxruntime are all that runs.

    pip install "fastloc[onnx-cpu]"
    python examples/onnx_on_a_device.py photo.jpg -t "a dog" --model gem.onnx

`python -m fastloc export` writes the file on another machine; `python -m fastloc verify gem.onnx` compares this device's answers with the
ones that the file carries.
"""

import argparse

from fastloc import OnnxLocalizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", help="a picture's path or address")
    parser.add_argument("-t", "--texts", nargs="+", required=True, help="the texts to look for")
    parser.add_argument("--model", default="embedded", help="an exported file; by default that of the small CLIP which ships with fastloc")
    parser.add_argument("--providers", default="cpu", help="where onnxruntime runs it")
    args = parser.parse_args()

    localizer = OnnxLocalizer(args.model, providers=args.providers)
    for point in localizer(args.picture, args.texts).points():
        print(f"{point.text}: x {point.x}, y {point.y}, similarity {point.similarity:.3f}")


if __name__ == "__main__":
    main()
