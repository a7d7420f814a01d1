"""The ledger: the durable record of spend in Postgres."""
