"""GOWA, a gateway to linked devices: the only room, beside the sandbox, that knows its JSON."""
