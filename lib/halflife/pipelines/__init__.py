"""What each job does from reading to publishing: the only code that ties storage to transformations."""
