"""halflife: how interested is every user in every item tonight."""

__version__ = "0.1.0"
