"""Use cases: a decision or a transaction each, called by the doors."""
