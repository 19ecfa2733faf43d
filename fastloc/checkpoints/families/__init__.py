"""Tables of image towers that other libraries name."""
