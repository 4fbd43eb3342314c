"""What others build on changes on purpose only; and what must start fast imports little."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.project.surface import PINNED, surface


def test_commands_options_and_errors_are_the_pinned_ones():
    assert surface().splitlines() == PINNED.read_text(encoding="utf-8").splitlines()


HEAVY = {
    "aiohttp", "alembic", "asn1crypto", "publicsuffixlist", "rich", "sqlalchemy", "tpm2_pytss",
}  # fmt: skip


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import tpmhsm.wire, tpmhsm.wire.commands", set()),
        ("import tpmhsm.policy.plan, tpmhsm.policy.text", set()),
        ("import tpmhsm.pki.describe, tpmhsm.pki.names", set()),
        ("import tpmhsm.tpm.chip, tpmhsm.tpm.policies", set()),
        ("import tpmhsm.store", {"sqlalchemy"}),
        ("import tpmhsm.cli.main", set()),
        ("from tpmhsm.cli.main import run; run(['--help'])", set()),
        ("from tpmhsm.cli.main import run; run(['policy', 'check', 'open'])", set()),
    ],
)
def test_what_is_not_used_is_not_imported(code, allowed):
    """Seconds vary from machine to machine; which modules are loaded does not."""
    assert HEAVY & loaded_by(code) <= allowed


def test_showing_a_file_imports_little(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "www.example.com")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    now = datetime.now(tz=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    for noun, value in (("csr", request), ("cert", made.sign(key, hashes.SHA256()))):
        file = tmp_path / noun
        file.write_bytes(value.public_bytes(serialization.Encoding.PEM))
        code = (
            f"from tpmhsm.cli.main import run; assert run([{noun!r}, 'show', {str(file)!r}]) == 0"
        )
        assert HEAVY & loaded_by(code) == set()


def loaded_by(code):
    """The top-level modules that a new interpreter holds after running `code`."""
    say = "import sys; print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{say}"], capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())
