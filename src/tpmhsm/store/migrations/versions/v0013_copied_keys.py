"""Keys that came from another chip: the storage key that they were copied for, and their origin."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. Keys of before were made, or imported, under the usual storage key."""
    for name in ("parent", "origin"):
        op.add_column("keys", sa.Column(name, sa.Text(), nullable=False, server_default=""))
