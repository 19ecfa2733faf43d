"""Video: sources of frames, the pipeline that locates texts in them while they come, and the file that is drawn of it.

    for found in fastloc.stream("clip.mp4", ["a dog"]):
        found.time, found.age, found.result.points()

Where frames come from: `frame` and `source` say what they are, `opening` finds the kind, PyAV is in `av_*`. Who waits for whom: `channel`,
`worker`, `pipeline` (frames are pushed) and `stream` (they are read). What one frame's map owes to others: `temporal`. What goes to a file:
`writer`, `drawing` and `records`.
"""
