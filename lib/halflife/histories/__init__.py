"""Users' histories walked in their order, in NumPy and Arrow: the only place that builds a session."""
