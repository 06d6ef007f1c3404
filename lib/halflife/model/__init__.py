"""The model: decay channels, encoder, jumps and losses, and the published artifact. Knows nothing of Spark."""
