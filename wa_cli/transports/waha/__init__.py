"""WAHA: a self-hosted gateway that keeps linked devices connected through one of four engines."""
