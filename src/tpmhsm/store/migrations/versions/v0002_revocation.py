"""Revocations and CRLs; what approvers remember of CRLs."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    _revocations()
    _crls()
    _approved_crls()


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _blob(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def _int(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=null)


def _id() -> sa.Column[int]:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("id", kind, autoincrement=True, nullable=False)


def _revocations() -> None:
    op.create_table(
        "revocations",
        _id(),
        _text("authority"),
        _text("serial"),
        _text("state"),
        _text("reason"),
        _text("revoked_at"),
        _text("invalidity"),
        _text("not_after"),
        _text("sha256"),
        _blob("entry"),
        _int("changed"),
        sa.PrimaryKeyConstraint("id", name="pk_revocations"),
        sa.UniqueConstraint("authority", "serial", name="uq_revocations_authority_serial"),
    )
    op.create_index("ix_revocations_authority_state", "revocations", ["authority", "state"])


def _crls() -> None:
    op.create_table(
        "crls",
        _id(),
        _text("authority"),
        _int("number"),
        _text("this_update"),
        _text("next_update"),
        _int("upto"),
        _int("entries"),
        _text("tbs_sha256"),
        _text("sha256"),
        sa.Column("der", sa.LargeBinary()),
        _int("request_id", null=True),
        _text("state"),
        _text("reserved_at"),
        sa.PrimaryKeyConstraint("id", name="pk_crls"),
        sa.ForeignKeyConstraint(["request_id"], ["requests.id"], name="fk_crls_request_id"),
        sa.UniqueConstraint("authority", "number", name="uq_crls_authority_number"),
    )


def _approved_crls() -> None:
    op.create_table(
        "approved_crls",
        _text("key_name"),
        _text("number"),
        _text("this_update"),
        _text("digest"),
        _blob("entries"),
        _text("at"),
        sa.PrimaryKeyConstraint("key_name", name="pk_approved_crls"),
    )
