"""What the chip audits, command by command, in its own order."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_GUARDS = {
    "sqlite": [
        f"CREATE TRIGGER chip_records_no_{act.lower()} BEFORE {act} ON chip_records "
        "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        for act in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        "CREATE TRIGGER chip_records_append_only BEFORE UPDATE OR DELETE OR TRUNCATE "
        "ON chip_records FOR EACH STATEMENT EXECUTE FUNCTION tpmhsm_audit_append_only()"
    ],
}


def upgrade() -> None:
    """Create the table, which the database itself keeps append-only."""
    op.create_table(
        "chip_records",
        sa.Column("n", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key_name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("n", name="pk_chip_records"),
    )
    for statement in _GUARDS[op.get_bind().dialect.name]:
        op.execute(statement)
