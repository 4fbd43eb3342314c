"""A house of authorities and certificates, all of them issued through the command line.

For each algorithm a root, an intermediate with path length and name constraints, and leaves. Leaves
have keys in files, so that programs can serve and answer with them. Beside them an intermediate of
the product's whose key is in a file too: a subordinate that signs what it may not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.support.shell import Shell

ALGORITHMS = ("p256", "p384", "rsa2048")
HOST = "www.example.com"
WILD = "one.apps.example.com"
ADDRESS = "192.0.2.7"
MAIL = "alice@example.com"
NAMES = (f"dns:{HOST}", "dns:*.apps.example.com", f"ip:{ADDRESS}")
CONSTRAINTS = tuple(
    word
    for option, name in (
        ("--permit", "dns:example.com"),
        ("--permit", "ip:192.0.2.0/24"),
        ("--permit", "email:example.com"),
        ("--exclude", "dns:secret.example.com"),
    )
    for word in (option, name)
)
_USAGES = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
}
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Chain:
    """A leaf, the certificates between, the root, and the leaf's key, as PEM files.

    `chain` has leaf and intermediates in order; `between` the intermediates alone, empty or not.
    """

    name: str
    leaf: Path
    chain: Path
    between: Path
    root: Path
    key: Path | None = None


@dataclass
class House:
    """The machine that issues, and the folder of the files."""

    machine: Shell
    path: Path
    chains: dict[str, Chain] = field(default_factory=dict)

    def key(self, name: str, alg: str = "p256") -> CertificateIssuerPrivateKeyTypes:
        """A new key in NAME.key."""
        key = rsa.generate_private_key(65537, 2048) if alg == "rsa2048" else _curve_key(alg)
        data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.path / f"{name}.key").write_bytes(data)
        return key

    def csr(
        self, name: str, common_name: str, sans: tuple[str, ...] = (), alg: str = "p256"
    ) -> str:
        """A CSR in NAME.csr for a new key in NAME.key; gives the file's path."""
        key = self.key(name, alg)
        builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(common_name))
        if sans:
            builder = builder.add_extension(_sans(sans), critical=False)
        data = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
        (self.path / f"{name}.csr").write_bytes(data)
        return str(self.path / f"{name}.csr")

    def authority(self, name: str, alg: str, *options: str) -> None:
        """An authority whose open key is in the chip."""
        self.machine("key", "create", name, "--alg", alg)
        subject = ("--subject", f"CN={name} {alg},O=Example")
        self.machine("ca", "create", name, "--key", name, *subject, *options)
        self.machine("cert", "export", name, "--out", str(self.path / f"{name}.pem"))

    def leaf(
        self, name: str, ca: str, common_name: str, sans: tuple[str, ...], *options: str, alg: str
    ) -> Chain:
        """A leaf that an authority issues for a key in a file."""
        csr = self.csr(name, common_name, sans, alg)
        self.machine("ca", "sign", ca, csr, *options, "--out", str(self.path / f"{name}.pem"))
        return self.keep(name, *self._above(ca))

    def _above(self, ca: str) -> list[str]:
        names = []
        found: str | None = ca
        while found:
            names.append(found)
            found = self.machine.json("ca", "show", found)["issuer"]
        return names

    def keep(self, name: str, *above: str) -> Chain:
        """A chain of files that are there: the leaf, what is above it, the root last."""
        texts = [(self.path / f"{n}.pem").read_text() for n in (name, *above)]
        (self.path / f"{name}.chain").write_text("".join(texts[:-1]))
        (self.path / f"{name}.between").write_text("".join(texts[1:-1]))
        key = self.path / f"{name}.key"
        chain = Chain(
            name,
            self.path / f"{name}.pem",
            self.path / f"{name}.chain",
            self.path / f"{name}.between",
            self.path / f"{above[-1]}.pem",
            key if key.exists() else None,
        )
        self.chains[name] = chain
        return chain

    def forged(
        self,
        name: str,
        by: str,
        *above: str,
        common_name: str = "",
        sans: tuple[str, ...] = (),
        purpose: str = "server",
        ca: bool = False,
        days: tuple[int, int] = (0, 90),
    ) -> Chain:
        """What the holder of `by`.key signs below its certificate, whatever it may sign."""
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        signer = load_pem_private_key((self.path / f"{by}.key").read_bytes(), None)
        issuer = x509.load_pem_x509_certificate((self.path / f"{by}.pem").read_bytes())
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        key, now = self.key(name), datetime.now(UTC) - timedelta(minutes=1)
        builder = x509.CertificateBuilder(
            issuer_name=issuer.subject,
            subject_name=_subject(common_name),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now + days[0] * _DAY,
            not_valid_after=now + days[1] * _DAY,
        )
        for extension, critical in _extensions(
            key.public_key(), issuer, sans, common_name, purpose, ca=ca
        ):
            builder = builder.add_extension(extension, critical)
        data = builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM)
        (self.path / f"{name}.pem").write_bytes(data)
        return self.keep(name, by, *above)


def _curve_key(alg: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1() if alg == "p384" else ec.SECP256R1())


def _subject(common_name: str) -> x509.Name:
    names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    return x509.Name(names)


def _sans(names: tuple[str, ...]) -> x509.SubjectAlternativeName:
    from tpmhsm.pki.sans import parse_san

    return x509.SubjectAlternativeName([parse_san(name) for name in names])


def _extensions(
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Certificate,
    sans: tuple[str, ...],
    common_name: str,
    purpose: str,
    *,
    ca: bool,
) -> list[tuple[x509.ExtensionType, bool]]:
    ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    usage = {"key_cert_sign": ca, "crl_sign": ca, "digital_signature": not ca}
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
              "encipher_only", "decipher_only")  # fmt: skip
    found: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=ca, path_length=None), True),
        (x509.KeyUsage(**usage, **dict.fromkeys(others, False)), True),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), False),
    ]
    if not ca:
        found.append((x509.ExtendedKeyUsage([_USAGES[purpose]]), False))
    if sans:
        found.append((_sans(sans), not common_name))
    return found
