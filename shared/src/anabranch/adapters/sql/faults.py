"""Translates errors of the database to the errors of `core.errors`."""

from __future__ import annotations

from sqlalchemy import exc

from anabranch.core.errors import AnabranchError, Misconfigured, ServerUnavailable, StoreRefused

SETTING = "ANABRANCH_DATABASE_URL"
_CHECK_ADDRESS = f"Check that the server runs and that {SETTING} names it; the history catches up afterwards"
_CHECK_FILE = f"Check the folder of the file that {SETTING} names, its permissions and the free space"
_CREDENTIALS = ("28P01", "28000", "3D000")
"""PostgreSQL's codes for a wrong password, a user that may not connect, and a database that does not exist."""
_TRANSIENT = ("40001", "40P01", "55P03")
"""PostgreSQL's codes for a serialization failure, a deadlock, and a lock that was not available."""
_INSERTED_BEFORE = "23505"
"""PostgreSQL's code for a row whose key exists. Another transaction has inserted it since this one looked for it;
the next try finds it."""
_REFUSING = ("08", "53", "57")
"""PostgreSQL's classes for lost connections, missing resources, and a server that stops."""


def is_transient(error: Exception) -> bool:
    """True if the same transaction may succeed at once: it was rolled back because of another one."""
    if not isinstance(error, exc.DBAPIError):
        return False
    return _state(error) in (*_TRANSIENT, _INSERTED_BEFORE) or "database is locked" in str(error.orig)


def translate(error: Exception, address: str) -> Exception:
    """The error to raise for a transaction that failed with `error`; a programming error stays as it is."""
    if isinstance(error, AnabranchError):
        return error
    if isinstance(error, exc.TimeoutError):
        return ServerUnavailable("the database", address, f"no free connection: {error}", _CHECK_ADDRESS)
    if not isinstance(error, exc.DBAPIError) or isinstance(error, exc.IntegrityError | exc.ProgrammingError):
        return error
    state, reason = _state(error), _reason(error)
    if state in _CREDENTIALS:
        return Misconfigured(SETTING, f"the database at {address} refuses: {reason}", "correct the URL")
    is_sqlite = address.startswith("sqlite")
    if error.connection_invalidated or state[:2] in _REFUSING or is_transient(error):
        return ServerUnavailable("the database", address, reason, _CHECK_FILE if is_sqlite else _CHECK_ADDRESS)
    if isinstance(error, exc.OperationalError) and (is_sqlite or not state):
        return ServerUnavailable("the database", address, reason, _CHECK_FILE if is_sqlite else _CHECK_ADDRESS)
    if isinstance(error, exc.OperationalError | exc.InterfaceError):
        return StoreRefused("a transaction of the database", reason, "See the server's log")
    return error


def _state(error: exc.DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", None) or "")


def _reason(error: exc.DBAPIError) -> str:
    return " ".join(str(error.orig or error).split())
