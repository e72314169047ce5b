"""A local WhatsApp: imitates the Cloud API on a loopback port, for trying and testing."""
