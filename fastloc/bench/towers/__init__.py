"""Facts of a case that depend on the kind of its image tower: a transformer, one of CLIP's ResNets, or one whose grid shrinks."""
