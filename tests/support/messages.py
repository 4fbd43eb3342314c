"""Certificates for keys that cannot ask for one, and messages encrypted for them by OpenSSL."""

from __future__ import annotations

import datetime
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

OAEP = ("-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256")
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate_for(public: Any, name: str) -> bytes:
    """PEM: another CA certifies the public key alone."""
    return (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named("Elsewhere CA"))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(START + datetime.timedelta(days=3650))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def openssl(folder: Path, *arguments: str) -> bytes:
    """Run a command; its output."""
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def message_for(public: Any, data: bytes, *options: str) -> bytes:
    """A message (DER) for one key, by `openssl cms`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "memo").write_bytes(data)
        (folder / "to.pem").write_bytes(certificate_for(public, "somebody"))
        oaep = () if isinstance(public, ec.EllipticCurvePublicKey) else OAEP
        return openssl(folder, "cms", "-encrypt", "-binary", "-aes256", "-in", "memo", "-outform",
                       "DER", "-recip", "to.pem", *oaep, *options)  # fmt: skip
