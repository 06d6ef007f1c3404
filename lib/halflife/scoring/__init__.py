"""From states and a model to the nightly tables of scores and recommendations."""
