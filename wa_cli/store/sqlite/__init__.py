"""All SQL and all migrations, on SQLite."""
