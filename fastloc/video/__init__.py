"""Video: sources of frames, the pipeline that locates texts in them while they come, and the file that is drawn of it.

    for found in fastloc.stream("clip.mp4", ["a dog"]):
        found.time, found.age, found.result.points()

`sources` reads frames: `frame` and `base` define them, `open_source` finds the kind, PyAV is in `av_*`. Threads and queues: `channel`,
`worker`, `pipeline` (frames are pushed) and `stream` (they are read). Smoothing over frames: `temporal`. `output` writes files: `writer`,
`drawing` and `json_lines`.
"""
