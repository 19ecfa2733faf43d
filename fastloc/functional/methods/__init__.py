"""Parts of the pass that only one method needs, beyond a row of `fastloc.recipes`."""
