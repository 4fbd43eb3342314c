"""The database: SQLite or PostgreSQL, migrations, the audit log.

Importing this package imports SQLAlchemy (a tenth of a second): only commands that need the
database do.
"""

from tpmhsm.store.database import TIMEOUT, Store, Transaction
from tpmhsm.store.schema import to_json

__all__ = ["TIMEOUT", "Store", "Transaction", "to_json"]
