"""The command line, a file a command. Heavy rooms are imported by the command that needs them, when it runs."""

from fastloc.cli.app import main

__all__ = ["main"]
