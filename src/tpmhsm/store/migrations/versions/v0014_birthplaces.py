"""Keys that may be copied: the public area of the storage key under which they were made."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Keys of before show no birthplace, and are not taken for originals."""
    op.add_column(
        "keys",
        sa.Column("creation_parent", sa.LargeBinary(), nullable=False, server_default=""),
    )
