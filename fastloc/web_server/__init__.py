"""The parts that every server of fastloc has: who may connect, for how long, and the loop that accepts connections."""
