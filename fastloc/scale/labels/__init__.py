"""Labels that other tools read, from the rows of a batch: one file a format, each written as the rows are read.

The files: `source` (row files to pictures and their objects), `masks` (a text's mask to a mask, or a polygon, of each object), `names`
(file names of keys), `coco`, `yolo`, `label_studio` and `fiftyone` (the formats), `convert` (which of them, and what to say about it).
"""
