"""What a chip says of itself and its keys, and what follows from it; no chip is needed here."""
