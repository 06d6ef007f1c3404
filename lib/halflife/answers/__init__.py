"""Answers from the published tables, in closed form and without Spark: scores at any instant, why, what moved, who."""
