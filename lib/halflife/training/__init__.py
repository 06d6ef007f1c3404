"""Training: user histories to batches, petastorm feed, the loop of one Horovod rank, and its launcher."""
