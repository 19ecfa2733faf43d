"""Add a method of your own: one row of the table of recipes, then compare it with the row that it changes.

    python examples/own_method.py photo.jpg -t "a dog" "a red car"
"""

import argparse
from dataclasses import replace

from fastloc import Localizer
from fastloc.recipes import RECIPES

# NACLIP's row with attention of keys to keys and of queries to queries, in the last two blocks
RECIPES["mine"] = replace(RECIPES["naclip"], name="mine", summary="k-k plus q-q attention, last two blocks", blocks=2, terms=("kk", "qq"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", help="a picture's path or address")
    parser.add_argument("-t", "--texts", nargs="+", required=True, help="the texts to look for")
    args = parser.parse_args()

    published = Localizer(method="naclip")
    # the two share weights and encoded texts
    for localizer in (published, published.with_method("mine")):
        for point in localizer(args.picture, args.texts).points():
            print(f"{localizer.method}: {point.text} at x {point.x}, y {point.y}")


if __name__ == "__main__":
    main()
