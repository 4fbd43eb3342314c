"""Certificates that somebody here trusts as roots, beside those of the authorities."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, empty: nobody was asked about what was imported so far."""
    op.create_table(
        "trusted_roots",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("since", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_trusted_roots"),
    )
