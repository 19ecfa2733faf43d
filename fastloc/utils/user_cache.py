"""The user's folder for what fastloc can make again."""

from pathlib import Path

from platformdirs import user_cache_path

__all__ = ["user_cache"]


def user_cache() -> Path:
    """The folder, which need not exist: ~/.cache/fastloc on Linux, where XDG_CACHE_HOME moves it; the platform's own elsewhere."""
    return user_cache_path("fastloc", appauthor=False)
