"""The SQL database: SQLite on one machine, PostgreSQL for a cluster."""
