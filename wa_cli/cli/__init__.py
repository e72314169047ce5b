"""The command line: read, call one use case, show."""
