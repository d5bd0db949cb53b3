"""The Hugging Face Hub's errors, each said in one line that tells the reader what to do.

Text, datasets and checkpoints all come from the Hub through its own client. The client's errors are long and name
addresses; what a reader needs is which repository, and whether to log in, to correct a name or to try again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from madyn.errors import MadynError, first_line

ATTEMPTS = 6
LONGEST_WAIT = 60.0  # seconds between two attempts, whatever a server asks for

T = TypeVar("T")

_PATIENCE = 4.0  # seconds for a connection
_answered: set[str] = set()  # the addresses that did, in this process
_unreachable = ""  # why the Hub was not, when it was last tried


def retrying(call: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Call the Hub's client again where waiting helps: too many requests, server errors, broken connections.

    The client itself retries some of its requests and not others (a file's body and a listing are tried once).
    Whatever the last attempt raises is raised.
    """
    from tenacity import Retrying, retry_if_exception, stop_after_attempt

    attempts = Retrying(
        retry=retry_if_exception(_may_pass), stop=stop_after_attempt(ATTEMPTS), wait=_wait, reraise=True
    )
    return attempts(call, *arguments, **options)


def _may_pass(e: BaseException) -> bool:
    from huggingface_hub import errors as hub
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    for cause in _causes(e):
        response = getattr(cause, "response", None)
        if isinstance(cause, hub.OfflineModeIsEnabled):
            return False
        if isinstance(cause, hub.HfHubHTTPError) and response is not None:
            return response.status_code == 429 or response.status_code >= 500
        if isinstance(cause, (HTTPError, ConnectionError, TimeoutError)):
            return True
    # A body of another size than the Hub says; the client raises a plain OSError.
    return isinstance(e, OSError) and "Consistency check failed" in str(e)


def _wait(state: Any) -> float:
    from tenacity import wait_random_exponential

    asked = None
    for cause in _causes(state.outcome.exception()):
        response = getattr(cause, "response", None)
        if response is not None:
            asked = response.headers.get("Retry-After")
            break
    own = wait_random_exponential(multiplier=1, max=LONGEST_WAIT)(state)
    try:
        return min(LONGEST_WAIT, max(own, float(asked or 0)))
    except ValueError:  # a date, which servers of the Hub do not send
        return own


@contextmanager
def hub_errors(
    what: str, error: type[MadynError], *, remote: bool = True, access: Literal["read", "write to"] = "read"
) -> Iterator[None]:
    """Turn the Hub client's errors inside the block into `error`, its message starting with `what`.

    transformers and datasets wrap the client's errors in their own, so that their causes are looked at too. An error
    that did not come from the Hub goes on as it is. Where there is no way to the Hub, that is found out first, in
    seconds, and the block runs with what is in the client's cache.

    Args:
        remote: the block asks the Hub; a loader of a folder does not.
        access: what a token must allow.
    """
    from huggingface_hub.errors import HFValidationError, HTTPError  # pyright: ignore[reportPrivateImportUsage]

    if remote:
        _find_the_way()
    try:
        yield
    except (HTTPError, HFValidationError, OSError) as e:
        found = next(filter(None, (_reason(cause, access) for cause in _causes(e))), None)
        reason = f"the Hub could not be reached ({_unreachable}); try again later" if remote and _unreachable else found
        if reason is None:
            raise
        raise error(f"{what}: {reason}") from e


def _find_the_way() -> None:
    """Try for a connection, and put the Hub's client offline where there is none.

    The client and the packages above it each try again for half a minute, with lines about it.
    """
    global _unreachable
    from huggingface_hub import constants

    if (constants.HF_HUB_OFFLINE and not _unreachable) or constants.ENDPOINT in _answered:
        return  # as the user wants it, or as it was
    reason = _knock(constants.ENDPOINT) and _knock(constants.ENDPOINT)
    _unreachable, constants.HF_HUB_OFFLINE = reason, bool(reason)
    if not reason:
        _answered.add(constants.ENDPOINT)


def _knock(address: str) -> str:
    """Why there is no connection to an address, or to the proxy before it; empty where there is one."""
    import socket
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    url = urlsplit(address)
    proxy = None if proxy_bypass(url.netloc) else getproxies().get(url.scheme) or getproxies().get("all")
    url = urlsplit(proxy if proxy and "://" in proxy else f"//{proxy}") if proxy else url
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        socket.create_connection((url.hostname or "", port), timeout=_PATIENCE).close()
    except (OSError, ValueError) as e:
        return str(e) or type(e).__name__
    return ""


def _causes(e: BaseException | None) -> Iterator[BaseException]:
    while e is not None:
        yield e
        e = e.__cause__


def _reason(e: BaseException, access: str) -> str | None:
    """What went wrong and what to do, or None for an error that is not the Hub's or only wraps one."""
    from huggingface_hub import errors as hub

    # The client's own name for its HTTP library's base error: that library changed between releases.
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    match e:
        case hub.GatedRepoError():
            return "access is granted on request; accept its terms on its page, then `hf auth login`"
        case hub.RepositoryNotFoundError():
            return "no such repository on the Hub, or a private one; check the name or `hf auth login`"
        case hub.RevisionNotFoundError():
            return "the repository has no such revision"
        case hub.RemoteEntryNotFoundError():
            return f"the repository has no file {str(e.response.url).rsplit('/', 1)[-1]}"
        case hub.HFValidationError():
            return f"not a name on the Hub ({first_line(e)})"
        case hub.HfHubHTTPError() if e.response.status_code in (401, 403):
            return f"the Hub refused access ({first_line(e)}); `hf auth login` with a token that may {access} it"
        case hub.HfHubHTTPError() if e.response.status_code == 404:
            return "no such repository or file on the Hub; check the name"
        case hub.OfflineModeIsEnabled():
            return "not in the cache, and HF_HUB_OFFLINE says not to ask the Hub"
        case HTTPError() | ConnectionError():
            return f"the Hub could not be reached ({first_line(e)}); try again later"
    return None
