"""`tpmhsm csr`: PKCS#10 requests from chip keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tpmhsm.cli.app import App, facts, pass_app
from tpmhsm.cli.csr_evidence import evidence_facts, evidence_lines, made_bundle, proven_facts
from tpmhsm.cli.files import STDIO
from tpmhsm.cli.options import Out, out_options, reason_option, wait_option
from tpmhsm.cli.pins import use_options
from tpmhsm.cli.waiting import settled
from tpmhsm.errors import UsageError

if TYPE_CHECKING:
    from tpmhsm.pki.csr import CsrContent

PROFILES = {
    "tls-server": (("digitalSignature",), ("serverAuth",)),
    "tls-client": (("digitalSignature",), ("clientAuth",)),
    "intermediate": (("keyCertSign", "cRLSign"), ()),
    "root": (("keyCertSign", "cRLSign"), ()),
}
"""What a CSR asks for when it is meant for a profile: key usages, extended key usages."""


@click.group(epilog="Example: tpmhsm csr create web --subject CN=a.example --san dns:a.example")
def csr() -> None:
    """Certificate signing requests: create, show, verify."""


@csr.command()
@click.argument("label")
@click.option("--subject", default="", metavar="DN", help="RFC 4514, as CN=www.example.com,O=X.")
@click.option("--san", "sans", multiple=True, metavar="TYPE:VALUE",
              help="dns, ip, email, uri, dirname, rid, upn, othername; repeatable.")  # fmt: skip
@click.option("--profile", type=click.Choice(list(PROFILES)), help="Ask for its key usages.")
@click.option("--evidence", is_flag=True, help="With what proves that the key is in a TPM.")
@click.option("--ak-certificate", "ak_certificates", multiple=True, metavar="F",
              help="With --evidence: of the chip's attestation key, and its chain.")  # fmt: skip
@reason_option()
@use_options
@wait_option
@out_options(der=True)
@pass_app
def create(
    app: App,
    label: str,
    subject: str,
    sans: tuple[str, ...],
    profile: str | None,
    evidence: bool,
    ak_certificates: tuple[str, ...],
    reason: str,
    wait: bool,
    out: Out,
) -> None:
    """Make a CSR that the chip signs.

    When the key's policy wants people, the same command gives the CSR once they have approved.

    \b
    Example:
      tpmhsm csr create web --subject CN=www.example.com --san dns:www.example.com --out web.csr
    """
    from tpmhsm.pki.csr import CsrContent
    from tpmhsm.pki.names import parse_dn
    from tpmhsm.pki.sans import parse_sans

    target = out.claim()
    usage, extended = PROFILES.get(profile or "", ((), ()))
    content = CsrContent(
        subject=parse_dn(subject),
        sans=parse_sans(sans),
        key_usage=usage,
        extended_key_usage=extended,
        ca=profile in ("root", "intermediate"),
    )
    if ak_certificates and not evidence:
        raise UsageError("--ak-certificate is a part of the evidence", hint="add --evidence")
    bundle = made_bundle(app, label, ak_certificates) if evidence else b""
    pem = write_csr(app, label, content, reason, wait, out, target, evidence=bundle)
    if target == STDIO and app.as_json:
        app.emit({"key": label, "csr_pem": pem})
    elif target != STDIO:
        app.done({"key": label, "file": target}, f"wrote {target}")


def write_csr(
    app: App,
    label: str,
    content: CsrContent,
    reason: str,
    wait: bool,
    out: Out,
    target: str,
    *,
    evidence: bytes = b"",
) -> str:
    """Have the CSR made and written (with --json not to stdout); gives it as PEM."""
    from tpmhsm.pki.load import to_pem

    raw = settled(app, wait, lambda: app.desk.make_csr(label, content, reason, evidence))
    pem = to_pem(raw, "CERTIFICATE REQUEST")
    if target != STDIO or not app.as_json:
        out.write(raw if out.der else pem, target)
    return pem.decode()


@csr.command(epilog="Example: tpmhsm csr show web.csr")
@click.argument("file", metavar="F")
@pass_app
def show(app: App, file: str) -> None:
    """What a CSR asks for."""
    from tpmhsm.pki.csr import csr_der, load_csr
    from tpmhsm.pki.describe import csr_lines, describe_csr

    loaded = load_csr(app.read(file), file)
    found = {**describe_csr(loaded), "evidence": evidence_facts(csr_der(loaded))}
    app.emit(found, lambda: facts([*csr_lines(found), *evidence_lines(found["evidence"])]))


@csr.command(epilog="Example: tpmhsm csr verify web.csr --trust attestation-ca.pem")
@click.argument("file", metavar="F")
@click.option("--trust", multiple=True, metavar="F",
              help="A root that certifies attestation keys: the evidence must hold.")  # fmt: skip
@click.option("--ak", "names", multiple=True, metavar="NAME",
              help="An attestation key that you activated, by its Name; repeatable.")  # fmt: skip
@click.option("--at", metavar="TIME", help="The moment that certificates must be valid at.")
@pass_app
def verify(
    app: App, file: str, trust: tuple[str, ...], names: tuple[str, ...], at: str | None
) -> None:
    """Check a CSR's signature and key, in software; with --trust or --ak its evidence, too.

    Without them evidence is not verified, which is said. The Name for --ak is what attest verify
    tells of a chip that answered a challenge.
    """
    from tpmhsm.pki.csr import csr_der, load_csr, verify_csr
    from tpmhsm.pki.describe import describe_csr

    loaded = load_csr(app.read(file), file)
    verify_csr(loaded)
    found = {"valid": True, **describe_csr(loaded), "evidence": evidence_facts(csr_der(loaded))}
    words = f"{file}: the signature holds"
    if trust or names:
        proven = proven_facts(app, csr_der(loaded), trust, names, at)
        found["evidence"] |= {**proven, "verified": True}
        words = "\n".join([words, f"{file}: the key is {proven['words']}", *proven["notes"]])
    elif found["evidence"]:
        unread = found["evidence"].get("problem")
        why = f"its evidence cannot be read: {unread}" if unread else "that the key is in a TPM"
        words = "\n".join([words, f"{file}: NOT VERIFIED: {why}", *([] if unread else [_PROVING])])
    app.emit(found, words)


_PROVING = """\
next: --trust CA.pem, of whoever certified the attestation key; or ask its chip:
  on its host: tpmhsm attest collect --out E
  here:        tpmhsm attest challenge E --out C
  on its host: tpmhsm attest respond C --out R
  here:        tpmhsm attest verify E --response R tells the Name for --ak"""
"""What makes evidence in a CSR count."""
