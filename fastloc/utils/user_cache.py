"""The user's cache folder, for files that fastloc can make again."""

from pathlib import Path

__all__ = ["user_cache"]


def user_cache() -> Path:
    """The folder, which need not exist: ~/.cache/fastloc on Linux, where XDG_CACHE_HOME moves it; the platform's own elsewhere."""
    # nobody needs it before something is kept
    from platformdirs import user_cache_path

    return user_cache_path("fastloc", appauthor=False)
