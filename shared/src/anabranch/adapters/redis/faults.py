"""Translates Redis' errors to the errors of `core.errors`."""

from __future__ import annotations

import ssl

from redis import exceptions

from anabranch.core.errors import AnabranchError, Misconfigured, ServerUnavailable, StoreRefused

_CHECK_ADDRESS = "Check that the server runs and that ANABRANCH_REDIS_URL names it"

_TRUST = "Name the file of the authority that signed the certificate, and the host as the certificate does"

# First word of an error reply -> the fix.
_REFUSALS = {
    "OOM": "Raise maxmemory, or delete data: nothing is evicted, because a lost key is a lost result",
    "READONLY": "This is a replica: name the primary in ANABRANCH_REDIS_URL",
    "MISCONF": "The server cannot save to disk: see its log and its free space",
    "NOREPLICAS": "The server wants more replicas than are connected (min-replicas-to-write)",
    "MOVED": "This is one node of a Redis Cluster, and redirections are not followed: name one with every slot",
    "NOPERM": "Give this user the commands and keys of the installation's prefix in its ACL",
}
_PASSING = ("LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY")
_LOST_WORDS = {
    exceptions.ReadOnlyError: "READONLY",
    exceptions.OutOfMemoryError: "OOM",
    exceptions.AskError: "MOVED",  # a base class of MovedError
}


def unreachable(address: str, reason: str) -> ServerUnavailable:
    """The error of a server that does not respond."""
    return ServerUnavailable("Redis", address, reason, _CHECK_ADDRESS)


def translate(error: Exception, operation: str, address: str) -> AnabranchError:
    """The error to raise for `operation`, which failed with `error`."""
    if isinstance(error, AnabranchError):
        return error
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
        return Misconfigured("ANABRANCH_REDIS_URL", f"Redis at {address}: {error}", "correct user and password")
    if (untrusted := _untrusted(error)) is not None:
        return Misconfigured("ANABRANCH_REDIS_CA_FILE", f"Redis at {address}: {untrusted.verify_message}", _TRUST)
    word = _first_word(error)
    if word in _REFUSALS:
        return StoreRefused(operation, str(error), _REFUSALS[word])
    if not isinstance(error, exceptions.ResponseError) or word in _PASSING:
        return unreachable(address, f"{operation}: {error or type(error).__name__}")
    return StoreRefused(operation, str(error), "See the server's log")


def _untrusted(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """The certificate error that caused `error`, which the library wraps; None if there is none."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def _first_word(error: Exception) -> str:
    """The code of an error reply. The library removes some codes and uses a class for them instead."""
    if isinstance(error, exceptions.NoPermissionError):
        return "NOPERM"
    for known, word in _LOST_WORDS.items():
        if isinstance(error, known):
            return word
    return (str(error).split(maxsplit=1) or [""])[0]
