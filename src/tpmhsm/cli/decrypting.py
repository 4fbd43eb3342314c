"""`tpmhsm key decrypt` and `key derive`: what was encrypted for a key of the chip."""

from __future__ import annotations

import sys
from base64 import b64encode
from typing import Any

import click

from tpmhsm.cli.app import App, pass_app
from tpmhsm.cli.files import STDIO, write_output
from tpmhsm.cli.options import Out, out_options, reason_option, wait_option
from tpmhsm.cli.pins import use_options
from tpmhsm.cli.waiting import settled
from tpmhsm.errors import UsageError

MAX_MESSAGE = 64 << 20
"""Bytes of a message; attachments included."""


@click.command()
@click.argument("label")
@click.argument("file", metavar="FILE")
@reason_option()
@use_options
@wait_option
@out_options("stdout by default; a new file is for you alone (0600).")
@pass_app
def decrypt(app: App, label: str, file: str, reason: str, wait: bool, out: Out) -> None:
    """Decrypt a file: an encrypted message (CMS, S/MIME), or an RSA ciphertext (OAEP).

    Where people must approve, the same command gives the plaintext when they have. It is kept
    nowhere else.

    \b
    Example:
      openssl cms -encrypt -aes256 -in memo.txt -out memo.p7m -recip box.pem \\
        -keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256
      tpmhsm key decrypt box memo.p7m --out memo.txt
    """
    target = out.claim()
    data = app.read(file, limit=MAX_MESSAGE)
    plain = settled(
        app, wait, lambda: app.desk.decryptions.decrypt(label, data, name=file, reason=reason)
    )
    _give(app, out, target, plain, {"key": label, "file": file}, "plaintext")


@click.command()
@click.argument("label")
@click.argument("peer", metavar="PEER")
@reason_option()
@use_options
@wait_option
@out_options("stdout by default; a new file is for you alone (0600).")
@pass_app
def derive(app: App, label: str, peer: str, reason: str, wait: bool, out: Out) -> None:
    """Agree on a secret (ECDH) with the owner of a public key: PEER, SubjectPublicKeyInfo.

    The secret is the x coordinate, as `openssl pkeyutl -derive` gives it: put it through a key
    derivation before use.

    \b
    Example:
      tpmhsm key derive box peer.pub --out shared.bin
    """
    target = out.claim()
    data = app.read(peer)
    secret = settled(
        app, wait, lambda: app.desk.decryptions.derive(label, data, name=peer, reason=reason)
    )
    _give(app, out, target, secret, {"key": label, "peer": peer}, "secret")


def _give(app: App, out: Out, target: str, data: bytes, facts: dict[str, Any], what: str) -> None:
    """To the file that was named, for its owner alone, or to stdout, but not raw to a terminal."""
    if target != STDIO:
        write_output(target, data, force=out.force, secret=True)
        app.done({**facts, what: target}, f"wrote {target}")
    elif app.as_json:
        app.emit({**facts, f"{what}_base64": b64encode(data).decode()})
    else:
        _refuse_terminal(data, what)
        write_output(STDIO, data)


def _refuse_terminal(data: bytes, what: str) -> None:
    from tpmhsm.pki.disguise import is_text

    if sys.stdout.isatty() and not is_text(data):
        raise UsageError(
            f"the {what} is not text, and stdout is a terminal", hint="--out F writes it to a file"
        )
