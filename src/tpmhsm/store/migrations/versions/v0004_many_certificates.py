"""A million certificates: search by any name, roots and ends at once; two indices less."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of names and fill it with what was the certificates' one name so far."""
    op.add_column("certificates", sa.Column("names", sa.Text(), nullable=False, server_default=""))
    plain = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")  # ranges of bytes
    names = op.create_table(
        "certificate_names",
        sa.Column("reversed", plain, nullable=False),
        sa.Column("certificate_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("reversed", "certificate_id", name="pk_certificate_names"),
        sa.ForeignKeyConstraint(
            ["certificate_id"], ["certificates.id"], name="fk_certificate_names_certificate_id"
        ),
    )
    connection = op.get_bind()
    op.execute("UPDATE certificates SET names = lower(name)")
    query = sa.text("SELECT id, names FROM certificates WHERE names != ''")
    found = [
        {"reversed": row[1][::-1], "certificate_id": row[0]} for row in connection.execute(query)
    ]
    if found:
        connection.execute(sa.insert(names), found)
    op.drop_index("ix_certificates_ski", "certificates")
    op.drop_index("ix_certificates_issuer", "certificates")
    op.create_index(
        "ix_certificates_is_ca_not_after_authority",
        "certificates",
        ["is_ca", "not_after", "authority"],
    )
    op.create_index("ix_serials_request_id", "serials", ["request_id"])
