"""Locate texts in a folder of pictures and write one line of JSON a picture.

    python examples/folder_to_json.py photos -t "a dog" "a red car" -o found.jsonl
"""

import argparse
import json
from pathlib import Path

from fastloc import Localizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a folder of pictures")
    parser.add_argument("-t", "--texts", nargs="+", required=True, help="the texts to look for")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the file to write, one line a picture")
    parser.add_argument("--model", default="embedded", help='a model of open_clip, such as "ViT-B-16"')
    parser.add_argument("--pretrained", help='its weights, such as "laion2b_s34b_b88k"')
    args = parser.parse_args()

    localizer = Localizer(args.model, args.pretrained)
    with args.output.open("w", encoding="utf-8") as file:
        for result in localizer(args.folder, args.texts):
            # score=0.5 leaves out the boxes of texts that are more likely absent
            file.write(json.dumps(result.to_dict(score=0.5), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
