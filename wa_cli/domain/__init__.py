"""Values and decisions, pure: no file, no socket, no environment, no clock."""
