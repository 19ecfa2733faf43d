"""Maps exceptions to one-line error messages and exit statuses; foreseen errors give no traceback."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from fastloc.errors import REMEMBERED, FastlocError, FastlocWarning
from fastloc.utils.extras import EXTRAS
from fastloc.utils.system.exhaustion import exhausted
from fastloc.utils.terminal import say, silence, streams
from fastloc.utils.termination import Terminated, Termination


def exit_status(program: str, work: Callable[[], int]) -> int:
    """The exit status of `work`: its own; 1 for an error, which is printed in one line behind the program's name; 130 when interrupted.
    Memory, threads and descriptors that run out are such errors too.

    SIGTERM and SIGHUP end it as Ctrl-C does, with one line: 143 and 129. Each FastlocWarning is printed once, as a note. A package that is
    missing and in no extra raises ModuleNotFoundError.
    """
    try:
        with streams():
            return _status(program, work)
    except FastlocError as error:
        return _fail(program, error)
    # before the work began, or behind it
    except MemoryError as error:
        return _unforeseen(program, error)


def _status(program: str, work: Callable[[], int]) -> int:
    try:
        with Termination() as termination, _notes(program):
            try:
                status = int(work())
                # a reader that has gone is noticed here, not when the interpreter shuts down
                _flush()
            except Exception:
                # a library that lost the interruption fails of it a moment later, in its own words
                if termination.error is not None:
                    raise termination.error from None
                raise
            return status
    except Terminated as end:
        # the terminal may be gone with what closed it
        with suppress(OSError):
            say(f"{program}: ended by {end.name}", error=True)
        return end.status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # the reader has gone (`| head`)
        silence(sys.stdout)
        return 1
    except (FastlocError, OSError) as error:
        return _fail(program, error)
    except Exception as error:
        return _unforeseen(program, error)


def _unforeseen(program: str, error: Exception) -> int:
    """The status for something that ran out, and for a package of an extra that is missing. Raises every other error again."""
    if (why := exhausted(error)) is not None:
        return _fail(program, why)
    if isinstance(error, ModuleNotFoundError):
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is not None:
            return _fail(program, f'this needs {error.name}, which is not installed: pip install "fastloc[{extra}]"')
    raise error


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError as error:
        silence(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise
        raise OSError(f"standard output cannot be written ({error.strerror})") from error


def _fail(program: str, message: object) -> int:
    say(f"{program}: error: {' '.join(str(message).split())}", error=True)
    return 1


@contextmanager
def _notes(program: str) -> Iterator[None]:
    """Print each FastlocWarning once, as a line of its own; drop those of Pillow about a picture's tags; leave others as they are."""
    with warnings.catch_warnings():
        usual, seen = warnings.showwarning, set[str]()

        def show(message: Warning | str, category: type[Warning], *place: object, **more: object) -> None:
            if not issubclass(category, FastlocWarning):
                usual(message, category, *place, **more)  # type: ignore[arg-type]
            elif str(message) not in seen:
                # a service's requests bring new ones for ever
                if len(seen) >= REMEMBERED:
                    seen.clear()
                seen.add(str(message))
                say(f"{program}: note: {' '.join(str(message).split())}", error=True)

        # a damaged picture has one for each of its tags, and says nothing of its pixels by them
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        warnings.simplefilter("always", FastlocWarning)
        warnings.showwarning = show
        yield
