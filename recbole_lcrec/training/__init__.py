"""One set of trainer features and one checkpoint format for every model."""
