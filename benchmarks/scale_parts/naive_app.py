"""A service as tutorials write one: FastAPI, a handler that decodes the picture and calls the model. What `fastloc serve` is compared with.

    python benchmarks/scale_parts/naive_app.py [--threads] --model embedded

The handler is a coroutine, in which each call holds up all others, or with --threads a function, of which FastAPI runs forty at once.
"""

import argparse
import io
import sys
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Form, UploadFile
from PIL import Image

from fastloc import Localizer


def application(localizer: Localizer, threads: bool) -> FastAPI:
    app = FastAPI()

    async def in_the_loop(image: UploadFile, texts: Annotated[list[str], Form()]) -> dict[str, Any]:
        picture = Image.open(io.BytesIO(await image.read()))
        return {"results": [localizer(picture, texts).to_dict()]}

    def in_a_thread(image: UploadFile, texts: Annotated[list[str], Form()]) -> dict[str, Any]:
        return {"results": [localizer(Image.open(image.file), texts).to_dict()]}

    app.post("/v1/locate")(in_a_thread if threads else in_the_loop)
    return app


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", action="store_true")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--pretrained")
    parser.add_argument("--size", type=int)
    args = parser.parse_args()
    uvicorn.run(application(Localizer(args.model, args.pretrained, size=args.size), args.threads), port=0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
