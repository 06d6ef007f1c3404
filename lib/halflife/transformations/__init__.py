"""DataFrame -> DataFrame steps. They know nothing of storage."""
