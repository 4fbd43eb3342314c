"""Keys and groups by label: the chip's objects, tied to what the database keeps of them."""
