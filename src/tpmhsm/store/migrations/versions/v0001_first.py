"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create all tables, and have the database itself keep the audit log append-only."""
    for create in _TABLES:
        create()
    protect = {"sqlite": _protect_audit_sqlite, "postgresql": _protect_audit_postgresql}
    protect[op.get_bind().dialect.name]()


def _text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=null)


def _blob(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def _int(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=null)


def _id() -> sa.Column[int]:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("id", kind, autoincrement=True, nullable=False)


def _unique_while(index: str, table: str, column: str, condition: str) -> None:
    where = sa.text(condition)
    op.create_index(index, table, [column], unique=True, sqlite_where=where, postgresql_where=where)


def _protect_audit_sqlite() -> None:
    for act in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_no_{act.lower()} BEFORE {act} ON audit "
            "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        )


def _protect_audit_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION tpmhsm_audit_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION tpmhsm_audit_append_only()"
    )


def _approvers() -> None:
    op.create_table(
        "approvers",
        _id(),
        _text("name"),
        _blob("card"),
        _blob("spki"),
        _text("key_name"),
        _text("kind"),
        _text("added"),
        sa.PrimaryKeyConstraint("id", name="pk_approvers"),
        sa.UniqueConstraint("key_name", name="uq_approvers_key_name"),
        sa.UniqueConstraint("name", name="uq_approvers_name"),
    )


def _audit() -> None:
    op.create_table(
        "audit",
        _int("seq"),
        _text("at"),
        _text("actor"),
        _text("act"),
        _text("facts"),
        _text("prev"),
        _text("hash"),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
    )


def _certificates() -> None:
    op.create_table(
        "certificates",
        _id(),
        _text("sha256"),
        _blob("der"),
        _text("subject"),
        _text("issuer"),
        _text("serial"),
        _text("not_before"),
        _text("not_after"),
        _text("spki_sha256"),
        _text("ski"),
        _text("aki"),
        sa.Column("is_ca", sa.Boolean(), nullable=False),
        _text("authority", null=True),
        _text("source"),
        _text("name"),
        _text("added"),
        _text("deleted"),
        sa.PrimaryKeyConstraint("id", name="pk_certificates"),
        sa.UniqueConstraint("sha256", name="uq_certificates_sha256"),
    )
    op.create_index("ix_certificates_authority", "certificates", ["authority"])
    op.create_index("ix_certificates_issuer", "certificates", ["issuer"])
    op.create_index("ix_certificates_name", "certificates", ["name"])
    op.create_index("ix_certificates_serial", "certificates", ["serial"])
    op.create_index("ix_certificates_ski", "certificates", ["ski"])
    op.create_index("ix_certificates_spki_sha256", "certificates", ["spki_sha256"])
    op.create_index("ix_certificates_subject", "certificates", ["subject"])


def _certified_keys() -> None:
    op.create_table(
        "certified_keys",
        _text("spki_sha256"),
        _text("subject"),
        sa.Column("ca", sa.Boolean(), nullable=False),
        _text("at"),
        sa.PrimaryKeyConstraint("spki_sha256", "subject", name="pk_certified_keys"),
    )


def _epochs() -> None:
    op.create_table(
        "epochs",
        _text("group_id"),
        _int("epoch"),
        _text("roster_digest"),
        _text("seen"),
        sa.PrimaryKeyConstraint("group_id", "epoch", name="pk_epochs"),
    )


def _groups() -> None:
    op.create_table(
        "groups",
        _text("id"),
        _text("name"),
        _blob("document"),
        _int("counter_index"),
        _int("roster_index"),
        _text("state"),
        _text("fingerprint"),
        _text("created"),
        sa.PrimaryKeyConstraint("id", name="pk_groups"),
    )
    _unique_while("uq_groups_name_alive", "groups", "name", "state != 'failed'")


def _pinned_groups() -> None:
    op.create_table(
        "pinned_groups",
        _text("group_id"),
        _text("fingerprint"),
        _text("ak_name"),
        _blob("document"),
        _text("pinned"),
        sa.PrimaryKeyConstraint("group_id", name="pk_pinned_groups"),
    )


def _pinned_keys() -> None:
    op.create_table(
        "pinned_keys",
        _text("name"),
        _text("label"),
        _text("group_id"),
        _blob("public"),
        _text("pinned"),
        sa.PrimaryKeyConstraint("name", name="pk_pinned_keys"),
    )


def _requests() -> None:
    op.create_table(
        "requests",
        _id(),
        _text("kind"),
        _text("state"),
        _text("key", null=True),
        _text("group_id", null=True),
        sa.Column("needed", sa.Integer(), nullable=False),
        _text("digest"),
        _blob("document"),
        _text("created"),
        _text("expires"),
        _text("executed_at"),
        _text("result", null=True),
        sa.PrimaryKeyConstraint("id", name="pk_requests"),
        # ids are shown to people and never given out again, even if a row were removed
        sqlite_autoincrement=True,
    )
    op.create_index("ix_requests_group_id", "requests", ["group_id"])
    op.create_index("ix_requests_state", "requests", ["state"])


def _settings() -> None:
    op.create_table(
        "settings",
        _text("key"),
        _text("value"),
        sa.PrimaryKeyConstraint("key", name="pk_settings"),
    )


def _trusted_cards() -> None:
    op.create_table(
        "trusted_cards",
        _id(),
        _text("kind"),
        _text("name"),
        _blob("card"),
        _text("digest"),
        _text("added"),
        sa.PrimaryKeyConstraint("id", name="pk_trusted_cards"),
        sa.UniqueConstraint("digest", name="uq_trusted_cards_digest"),
    )


def _approvals() -> None:
    op.create_table(
        "approvals",
        _id(),
        _int("request_id"),
        _text("approver"),
        _text("kind"),
        _blob("document"),
        _text("at"),
        sa.PrimaryKeyConstraint("id", name="pk_approvals"),
        sa.ForeignKeyConstraint(["request_id"], ["requests.id"], name="fk_approvals_request_id"),
        sa.UniqueConstraint("request_id", "approver", name="uq_approvals_request_id_approver"),
    )


def _authorities() -> None:
    op.create_table(
        "authorities",
        _id(),
        _text("name"),
        _text("key_label"),
        _text("profile"),
        _text("subject"),
        _text("issuer", null=True),
        _text("certificate", null=True),
        _text("state"),
        _text("settings", null=True),
        _text("created"),
        sa.PrimaryKeyConstraint("id", name="pk_authorities"),
        sa.ForeignKeyConstraint(
            ["certificate"], ["certificates.sha256"], name="fk_authorities_certificate"
        ),
        sa.ForeignKeyConstraint(["issuer"], ["authorities.name"], name="fk_authorities_issuer"),
        sa.UniqueConstraint("name", name="uq_authorities_name"),
    )


def _denials() -> None:
    op.create_table(
        "denials",
        _id(),
        _int("request_id"),
        _text("approver"),
        _text("reason"),
        _blob("document"),
        _text("at"),
        sa.PrimaryKeyConstraint("id", name="pk_denials"),
        sa.ForeignKeyConstraint(["request_id"], ["requests.id"], name="fk_denials_request_id"),
        sa.UniqueConstraint("request_id", "approver", name="uq_denials_request_id_approver"),
    )


def _keys() -> None:
    op.create_table(
        "keys",
        _id(),
        _text("label"),
        _text("alg"),
        _text("hash"),
        _text("use"),
        _text("policy"),
        _text("group_id", null=True),
        _blob("public"),
        _blob("private"),
        _text("name"),
        _blob("spki"),
        _text("spki_sha256"),
        _blob("creation_data"),
        _blob("creation_hash"),
        _blob("creation_ticket"),
        _blob("creation_attest"),
        _blob("creation_signature"),
        _text("state"),
        _text("created"),
        _text("deleted"),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="fk_keys_group_id"),
    )
    op.create_index("ix_keys_name", "keys", ["name"])
    op.create_index("ix_keys_spki_sha256", "keys", ["spki_sha256"])
    # the record of a deleted key stays, its label is free
    _unique_while("uq_keys_label_present", "keys", "label", "state = 'present'")


def _rosters() -> None:
    op.create_table(
        "rosters",
        _id(),
        _text("group_id"),
        _int("epoch"),
        _blob("document"),
        _text("digest"),
        _text("state"),
        _text("created"),
        sa.PrimaryKeyConstraint("id", name="pk_rosters"),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="fk_rosters_group_id"),
        sa.UniqueConstraint("group_id", "epoch", "digest", name="uq_rosters_group_id_epoch_digest"),
    )
    _unique_while("uq_rosters_in_force", "rosters", "group_id", "state = 'in-force'")


def _serials() -> None:
    op.create_table(
        "serials",
        _id(),
        _text("authority"),
        _text("serial"),
        _blob("tbs"),
        _text("tbs_sha256"),
        _int("request_id", null=True),
        sa.Column("prepared", sa.Text()),
        _text("state"),
        _text("reserved_at"),
        sa.PrimaryKeyConstraint("id", name="pk_serials"),
        sa.ForeignKeyConstraint(["request_id"], ["requests.id"], name="fk_serials_request_id"),
        sa.UniqueConstraint("authority", "serial", name="uq_serials_authority_serial"),
    )
    op.create_index("ix_serials_state", "serials", ["state"])


_TABLES = (
    _approvers,
    _audit,
    _certificates,
    _certified_keys,
    _epochs,
    _groups,
    _pinned_groups,
    _pinned_keys,
    _requests,
    _settings,
    _trusted_cards,
    _approvals,
    _authorities,
    _denials,
    _keys,
    _rosters,
    _serials,
)
