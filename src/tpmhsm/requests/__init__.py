"""Approval requests: born, shown, collected, executed. They serve keys, groups and authorities."""
