"""Providers, a folder each: sending, and reading what they send back."""
