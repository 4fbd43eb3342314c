"""A home as a whole: its backup, and putting it back."""
