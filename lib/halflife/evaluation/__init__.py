"""Evaluation: published nights and the model against what really happened, beside simple baselines."""
