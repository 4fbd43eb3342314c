"""Keys: the policy as it is published, with what was measured at the key's birth."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Keys of before have policies that say everything in their text."""
    column = sa.Column("policy_document", sa.Text(), nullable=False, server_default="")
    op.add_column("keys", column)
