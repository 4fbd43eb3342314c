"""The certificates that a TLS server sends, fetched without judging them.

The handshake takes old versions and weak ciphers, and any certificate: it is to be looked at, and
nothing is sent over it.
"""

from __future__ import annotations

import socket
import ssl
import time
import warnings
from typing import Any

from tpmhsm.errors import RefusedError, UsageError


def fetch_chain(host: str, port: int, timeout: float) -> list[bytes]:
    """DER of the server's certificates, its own first. `timeout` in seconds, for all of it.

    RefusedError, with the code `network` or `tls`, when there is no answer or no TLS; UsageError
    for a host name that cannot be one.
    """
    until = time.monotonic() + timeout
    where = f"{host}:{port}"
    try:
        with socket.create_connection((host, port), timeout) as connection:
            connection.settimeout(max(0.05, until - time.monotonic()))
            return _handshake(connection, host, where)
    except ssl.SSLError as error:
        raise _no_tls(where, error) from error
    except TimeoutError as error:
        raise RefusedError(
            f"{where} did not answer within {timeout:g} seconds",
            code="network",
            hint="--timeout waits longer",
        ) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise RefusedError(f"cannot reach {where}: {reason}", code="network") from error
    except UnicodeError as error:
        raise UsageError(f"{host!r} is no host name") from error


def _handshake(connection: socket.socket, host: str, where: str) -> list[bytes]:
    with _context().wrap_socket(connection, server_hostname=host) as secured:
        chain = _sent_chain(secured)
        own = secured.getpeercert(binary_form=True)
    if not chain and not own:
        raise RefusedError(f"{where} sent no certificate", code="tls")
    return chain or [own]  # type: ignore[list-item]


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old versions: nothing secret is sent
        context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def _sent_chain(secured: ssl.SSLSocket) -> list[bytes]:
    """All that was sent: in `ssl` from Python 3.13 on, before that in what it is made of."""
    inner: Any = getattr(secured, "get_unverified_chain", None)
    if inner is not None:
        return list(inner() or ())
    encoded = 1  # _ssl.ENCODING_PEM; 2 is DER
    found = getattr(secured, "_sslobj", None)
    if not hasattr(found, "get_unverified_chain"):
        return []
    chain = found.get_unverified_chain() or ()  # type: ignore[union-attr]
    return [ssl.PEM_cert_to_DER_cert(one.public_bytes(encoded)) for one in chain]


def _no_tls(where: str, error: ssl.SSLError) -> RefusedError:
    reason = (error.reason or str(error)).replace("_", " ").lower()
    return RefusedError(
        f"{where} answers, but not with TLS that works: {reason}",
        code="tls",
        hint="is it a port for TLS? STARTTLS is not spoken here",
    )
