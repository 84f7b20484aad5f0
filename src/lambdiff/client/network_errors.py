"""Turn the exceptions of `requests` into lambdiff's, which tell whether the function may have run."""

from __future__ import annotations

import re
import ssl

import requests
from requests.exceptions import InvalidSchema, InvalidURL, ProxyError, SSLError
from urllib3.exceptions import HTTPError, NewConnectionError, ReadTimeoutError

from lambdiff.client.bounded_http import ReplyTooLarge
from lambdiff.errors import ConfigurationError, EndpointFailed, EndpointTimeout, EndpointUnreachable
from lambdiff.printable import printable
from lambdiff.protocol.http import HttpResponse


class NotStarted(Exception):
    """The request did not reach the function or was rejected by Lambda: nothing ran, so it is safe to repeat."""

    def __init__(self, *, reply: HttpResponse | None = None, error: EndpointUnreachable | None = None) -> None:
        self.reply, self.error = reply, error


def translate(error: OSError | HTTPError, url: str) -> Exception:  # noqa: PLR0911 (a table)
    """Return the exception to raise: a `NotStarted` if the request may be repeated, a `LambdiffError` otherwise."""
    match error:
        case requests.ConnectTimeout():
            return NotStarted(error=_unreachable(url, "it does not answer"))
        case requests.Timeout() | ReadTimeoutError():
            return timed_out()
        case _ if isinstance(_innermost(error), ReplyTooLarge):
            return EndpointFailed(
                "The endpoint sent more than a Function URL can send.", fix="Check that the URL is a lambdiff endpoint."
            )
        case SSLError() if isinstance(_innermost(error), ssl.SSLCertVerificationError):
            return EndpointUnreachable(
                f"The certificate of {url} is not trusted: {_cause(error)}.",
                fix="If a proxy re-signs your traffic, set AWS_CA_BUNDLE to a file with its CA certificate.",
            )
        case SSLError():
            return _broken(error)  # perhaps after the request was read
        case ProxyError():
            return _unreachable(url, f"the proxy does not answer ({_cause(error)})")
        case requests.ConnectionError() if _never_connected(error):
            return NotStarted(error=_unreachable(url, _cause(error)))
        case requests.ConnectionError() if "timed out" in _cause(error).lower():
            return timed_out()
        case InvalidURL() | InvalidSchema():
            return ConfigurationError(
                f"The request cannot be sent: {_without_passwords(str(error))}.",
                fix="Check HTTPS_PROXY, ALL_PROXY and the URL.",
            )
        case requests.RequestException() | HTTPError():
            return _broken(error)
        case _:  # requests raises a plain OSError before it sends anything
            return ConfigurationError(
                f"The request cannot be sent: {error}.", fix="Check REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE."
            )


def _never_connected(error: requests.ConnectionError) -> bool:
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(reason, NewConnectionError)


def _unreachable(url: str, why: str) -> EndpointUnreachable:
    return EndpointUnreachable(
        f"{url} cannot be reached: {why}.",
        fix="Nothing was generated. Check the network and the URL (`lambdiff status`).",
    )


def timed_out() -> EndpointTimeout:
    """Return the error for a reply that did not arrive in time."""
    return EndpointTimeout(
        "The endpoint did not answer in time.",
        fix="The request was not repeated, because the image may have been billed. See `lambdiff logs`, then request "
        "fewer steps or a smaller size.",
    )


def _broken(error: Exception) -> EndpointFailed:
    return EndpointFailed(
        f"The connection broke before the image was complete: {_cause(error)}.",
        fix="The request was not repeated, because the image may have been billed. Run it again if you "
        "accept the cost.",
    )


def _innermost(error: BaseException) -> BaseException:
    """The error at the bottom of a chain of wrapped network errors."""
    for _ in range(8):
        reason = getattr(error, "reason", None)
        inner = reason if isinstance(reason, BaseException) else None
        inner = inner or next((each for each in error.args if isinstance(each, BaseException)), None)
        if inner is None:
            break
        error = inner
    return error


def _cause(error: BaseException) -> str:
    """The innermost error in words, without the connection's description and passwords."""
    error = _innermost(error)
    text = re.sub(r"^<?\w+\(host=.*?\)( at \w+)?>?: ", "", str(error)) or type(error).__name__
    return printable(_without_passwords(text), 200).rstrip(".")


def _without_passwords(text: str) -> str:
    """A text in which the URL of a proxy may occur, without the password in it."""
    return re.sub(r"://\S*@", "://...@", text)
