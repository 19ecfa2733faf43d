"""Video: sources of frames, the pipeline that locates texts in them while they come, and the file that is drawn of it.

    for found in fastloc.stream("clip.mp4", ["a dog"]):
        found.time, found.age, found.result.points()

The rooms: `frame`, `source` and `open` (where frames come from, PyAV in `av_*` alone), `pipeline` and `stream` (who waits for whom),
`temporal` (what one frame's map owes to those before it), `writer` and `drawing` (what goes to a file).
"""
