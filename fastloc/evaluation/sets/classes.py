"""Plain class names of the label sets: one a class, words apart, in the order of the labels.

The classes are those of mmsegmentation's data sets (mmseg/datasets of 1.2.2: voc, pascal_context, coco_stuff, ade, cityscapes) and of
COCO-Object (wangf3014/SCLIP@b56bd30 custom_datasets.py). Of COCO-Stuff's ordered names the second part becomes an adjective where it is
one ("wall-brick": brick wall) and is left out where it is "other" or "stuff".
"""

from __future__ import annotations

__all__ = ["CLASSES"]

_BACKGROUND = ("background",)


def _names(text: str) -> tuple[str, ...]:
    return tuple(" ".join(name.split()) for name in text.split(","))


_VOC = _names(
    """aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, dining table, dog, horse, motorbike, person, potted plant, sheep,
    sofa, train, tv monitor"""
)
_CONTEXT = _names(
    """aeroplane, bag, bed, bedclothes, bench, bicycle, bird, boat, book, bottle, building, bus, cabinet, car, cat, ceiling, chair, cloth,
    computer, cow, cup, curtain, dog, door, fence, floor, flower, food, grass, ground, horse, keyboard, light, motorbike, mountain, mouse,
    person, plate, platform, potted plant, road, rock, sheep, shelves, sidewalk, sign, sky, snow, sofa, table, track, train, tree, truck,
    tv monitor, wall, water, window, wood"""
)
_COCO_THINGS = _names(
    """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, parking meter, bench,
    bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard,
    sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon,
    bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table,
    toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors,
    teddy bear, hair drier, toothbrush"""
)
_COCO_STUFF = _names(
    """banner, blanket, branch, bridge, building, bush, cabinet, cage, cardboard, carpet, ceiling, tile ceiling, cloth, clothes, clouds,
    counter, cupboard, curtain, desk, dirt, door, fence, marble floor, floor, stone floor, tile floor, wood floor, flower, fog, food, fruit,
    furniture, grass, gravel, ground, hill, house, leaves, light, mat, metal, mirror, moss, mountain, mud, napkin, net, paper, pavement,
    pillow, plant, plastic, platform, playing field, railing, railroad, river, road, rock, roof, rug, salad, sand, sea, shelf, sky,
    skyscraper, snow, solid, stairs, stone, straw, structure, table, tent, textile, towel, tree, vegetable, brick wall, concrete wall, wall,
    panel wall, stone wall, tile wall, wood wall, water, water drops, window blind, window, wood"""
)
_ADE20K = _names(
    """wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth, door, table, mountain,
    plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug, field, armchair, seat, fence, desk, rock, wardrobe,
    lamp, bathtub, railing, cushion, base, box, column, signboard, chest of drawers, counter, sand, sink, skyscraper, fireplace,
    refrigerator, grandstand, path, stairs, runway, case, pool table, pillow, screen door, stairway, river, bridge, bookcase, blind,
    coffee table, toilet, flower, book, hill, bench, countertop, stove, palm, kitchen island, computer, swivel chair, boat, bar,
    arcade machine, hovel, bus, towel, light, truck, tower, chandelier, awning, streetlight, booth, television receiver, airplane,
    dirt track, apparel, pole, land, bannister, escalator, ottoman, bottle, buffet, poster, stage, van, ship, fountain, conveyer belt,
    canopy, washer, plaything, swimming pool, stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven, ball, food, step, tank,
    trade name, microwave, pot, animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light, tray,
    ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock, flag"""
)
_CITYSCAPES = _names(
    """road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky, person, rider, car, truck, bus,
    train, motorcycle, bicycle"""
)
# by the name of the set
CLASSES = {
    "voc21": _BACKGROUND + _VOC,
    "voc20": _VOC,
    "context60": _BACKGROUND + _CONTEXT,
    "context59": _CONTEXT,
    "coco-object": _BACKGROUND + _COCO_THINGS,
    "coco-stuff": _COCO_THINGS + _COCO_STUFF,
    "ade20k": _ADE20K,
    "cityscapes": _CITYSCAPES,
}
