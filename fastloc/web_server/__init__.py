"""The parts that every server of fastloc has: access, limits of connections, and the loop that accepts them."""
