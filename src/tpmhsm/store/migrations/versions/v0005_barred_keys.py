"""Keys that are certified never again; those that were revoked as compromised so far."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and fill it."""
    op.create_table(
        "barred_keys",
        sa.Column("spki_sha256", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("since", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("spki_sha256", name="pk_barred_keys"),
    )
    op.execute(
        "INSERT INTO barred_keys (spki_sha256, why, since)"
        " SELECT c.spki_sha256, 'a certificate of it was revoked as compromised',"
        " min(r.revoked_at) FROM revocations r JOIN certificates c"
        " ON c.authority = r.authority AND c.serial = r.serial"
        " WHERE r.state = 'revoked' AND r.reason IN ('keyCompromise', 'cACompromise')"
        " GROUP BY c.spki_sha256"
    )
