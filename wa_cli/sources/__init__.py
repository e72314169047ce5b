"""Recipient lists and batch files, from disk to domain values."""
