"""What a database driver says, in words: the one place where its exceptions are translated."""

from __future__ import annotations

import sqlite3

from tpmhsm.errors import ExistsError, StoreError, TpmHsmError, UsageError

# SQLite's result codes by the beginning of their names (https://sqlite.org/rescode.html)
_SQLITE = (
    ("SQLITE_BUSY", "busy"),
    ("SQLITE_LOCKED", "busy"),
    ("SQLITE_PROTOCOL", "busy"),
    ("SQLITE_FULL", "full"),
    ("SQLITE_IOERR_SHMSIZE", "full"),
    ("SQLITE_IOERR", "io"),
    ("SQLITE_READONLY", "read-only"),
    ("SQLITE_CANTOPEN", "denied"),
    ("SQLITE_PERM", "denied"),
    ("SQLITE_AUTH", "denied"),
    ("SQLITE_NOTADB", "corrupt"),
    ("SQLITE_CORRUPT", "corrupt"),
    ("SQLITE_CONSTRAINT_UNIQUE", "taken"),
    ("SQLITE_CONSTRAINT_PRIMARYKEY", "taken"),
    ("SQLITE_CONSTRAINT_TRIGGER", "append-only"),
)
# PostgreSQL's SQLSTATE by prefix (manual, appendix A)
_POSTGRESQL = (
    ("55P03", "busy"),
    ("40", "busy"),
    ("53100", "full"),
    ("53", "busy"),
    ("25006", "read-only"),
    ("42501", "denied"),
    ("28", "denied"),
    ("3D000", "missing"),
    ("57P", "lost"),
    ("08", "lost"),
    ("XX", "corrupt"),
    ("58", "io"),
    ("23505", "taken"),
    ("P0001", "append-only"),
)
_WORDS = {
    "busy": (
        "another process holds the database {place}",
        "try again; if it lasts, look for a tpmhsm command that hangs",
    ),
    "full": (
        "the disk is full: nothing was written to the database {place}",
        "make room and run the command again",
    ),
    "read-only": (
        "the database {place} cannot be written",
        "check the owner and mode of the file, its directory and the mount",
    ),
    "denied": ("the database {place} cannot be opened with this user's rights", ""),
    "corrupt": (
        "{place} is damaged or is no database of TPM HSM",
        "restore it from a backup; keys cannot be used without it",
    ),
    "io": ("the disk under the database {place} failed", "look at the kernel's log"),
    "lost": ("the database server {place} went away or does not answer", ""),
    "missing": ("there is no database {place}", "create it, then run tpmhsm init"),
    "append-only": ("the audit log in {place} can only be added to", ""),
    "failed": ("the database {place} failed", ""),
}


def store_error(code: str, place: str, cause: object = "") -> StoreError:
    """A StoreError with the words for `code`; `cause` is the driver's own message."""
    message, hint = _WORDS[code]
    detail = str(cause).strip().split("\n")[0]
    words = message.format(place=place) + (f": {detail}" if code == "failed" and detail else "")
    return StoreError(words, hint=hint, code=code, details={"cause": detail} if detail else {})


def translate(error: BaseException, place: str) -> TpmHsmError | None:
    """Our error for a driver's, or None for what is not the database's business (Ctrl-C)."""
    if isinstance(error, TpmHsmError) or not isinstance(error, Exception):
        return None
    if isinstance(error, UnicodeError):
        return UsageError("text that is no valid Unicode cannot be kept in the database")
    code = _code(error)
    if code is None:
        return None
    if code == "taken":
        return ExistsError(f"the database {place} has such an entry already")
    return store_error(code, place, error)


def _code(error: Exception) -> str | None:
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", None) or ""
        return _by_prefix(_SQLITE, name)
    if type(error).__module__.partition(".")[0] == "psycopg":
        state = getattr(error, "sqlstate", None)
        return _by_prefix(_POSTGRESQL, state) if state else _stateless(error)
    return None


def _stateless(error: Exception) -> str:
    """libpq gives no SQLSTATE when a connection could not be made: its words must do."""
    words = str(error)
    if type(error).__name__ != "OperationalError":
        return "failed"
    if "database" in words and "does not exist" in words:
        return "missing"
    return "denied" if "authentication failed" in words or "no pg_hba" in words else "lost"


def _by_prefix(table: tuple[tuple[str, str], ...], name: str) -> str:
    return next((code for prefix, code in table if name.startswith(prefix)), "failed")
