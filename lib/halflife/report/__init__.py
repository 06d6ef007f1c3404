"""A published night as one HTML page: what ran, what changed, how good it is, how interest fades."""
