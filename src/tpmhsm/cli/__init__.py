"""The command line: one file a noun, everything below imported lazily."""
