"""Meta's Cloud API: the only room, beside the sandbox, that knows its JSON."""
