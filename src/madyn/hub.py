"""The Hugging Face Hub's errors, each said in one line that tells the reader what to do.

Text, datasets and checkpoints all come from the Hub through its own client. The client's errors are long and name
addresses; what a reader needs is which repository, and whether to log in, to correct a name or to try again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from madyn.errors import MadynError


@contextmanager
def hub_errors(what: str, error: type[MadynError]) -> Iterator[None]:
    """Turn the Hub client's errors inside the block into `error`, its message starting with `what`."""
    from huggingface_hub import errors as hub

    # The client's own name for its HTTP library's base error: that library changed between releases.
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    try:
        yield
    except hub.GatedRepoError as e:
        raise error(f"{what}: access is granted on request; accept its terms on its page, then `hf auth login`") from e
    except hub.RepositoryNotFoundError as e:
        raise error(
            f"{what}: no such repository on the Hub, or a private one; check the name or `hf auth login`"
        ) from e
    except hub.RevisionNotFoundError as e:
        raise error(f"{what}: the repository has no such revision") from e
    except hub.EntryNotFoundError as e:
        raise error(f"{what}: {_first_line(e)}") from e
    except hub.HFValidationError as e:
        raise error(f"{what}: not a name on the Hub ({_first_line(e)})") from e
    except (HTTPError, ConnectionError) as e:
        raise error(f"{what}: the Hub could not be reached ({_first_line(e)}); try again later") from e


def _first_line(e: BaseException) -> str:
    return (str(e).strip().splitlines() or [type(e).__name__])[0]
