"""Parts of the pass that one method alone needs: what is more than a row of `fastloc.recipes`."""
