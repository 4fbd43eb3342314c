"""What others build on changes on purpose only; and what must start fast imports little."""

import subprocess
import sys

import pytest
from tests.project.surface import PINNED, surface


def test_commands_options_and_errors_are_the_pinned_ones():
    assert surface().splitlines() == PINNED.read_text(encoding="utf-8").splitlines()


HEAVY = {
    "aiohttp", "alembic", "asn1crypto", "pyhanko_certvalidator", "rich", "sqlalchemy", "tpm2_pytss",
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
    say = "import sys; print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{say}"], capture_output=True, text=True, check=True
    )
    assert HEAVY & set(done.stderr.split()) <= allowed
