"""`tpmhsm csr`: PKCS#10 requests from chip keys."""

from __future__ import annotations

import click

from tpmhsm.cli.app import App, facts, pass_app

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
@click.option("-o", "--out", default="-", metavar="F", help="stdout by default.")
@click.option("--der", is_flag=True, help="DER instead of PEM.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@pass_app
def create(
    app: App,
    label: str,
    subject: str,
    sans: tuple[str, ...],
    profile: str | None,
    out: str,
    der: bool,
    force: bool,
) -> None:
    """Make a CSR that the chip signs.

    \b
    Example:
      tpmhsm csr create web --subject CN=www.example.com --san dns:www.example.com --out web.csr
    """
    from tpmhsm.pki.csr import CsrContent
    from tpmhsm.pki.load import to_pem
    from tpmhsm.pki.names import parse_dn
    from tpmhsm.pki.sans import parse_sans

    usage, extended = PROFILES.get(profile or "", ((), ()))
    content = CsrContent(
        subject=parse_dn(subject),
        sans=parse_sans(sans),
        key_usage=usage,
        extended_key_usage=extended,
        ca=profile in ("root", "intermediate"),
    )
    raw = app.desk.make_csr(label, content)
    pem = to_pem(raw, "CERTIFICATE REQUEST")
    if app.as_json and out == "-":
        app.emit({"key": label, "csr_pem": pem.decode()})
        return
    app.write(out, raw if der else pem, force=force)
    if out != "-":
        app.emit({"key": label, "file": out}, f"wrote {out}")


@csr.command()
@click.argument("file", metavar="F")
@pass_app
def show(app: App, file: str) -> None:
    """What a CSR asks for."""
    from tpmhsm.pki.csr import load_csr
    from tpmhsm.pki.describe import csr_lines, describe_csr

    found = describe_csr(load_csr(app.read(file), file))
    app.emit(found, lambda: facts(csr_lines(found)))


@csr.command()
@click.argument("file", metavar="F")
@pass_app
def verify(app: App, file: str) -> None:
    """Check a CSR's signature and key, in software."""
    from tpmhsm.pki.csr import load_csr, verify_csr
    from tpmhsm.pki.describe import describe_csr

    loaded = load_csr(app.read(file), file)
    verify_csr(loaded)
    app.emit({"valid": True, **describe_csr(loaded)}, f"{file}: the signature holds")
