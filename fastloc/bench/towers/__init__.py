"""Facts of a case that depend on the kind of its image tower: a transformer, or one of CLIP's ResNets."""
