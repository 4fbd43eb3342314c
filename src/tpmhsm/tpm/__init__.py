"""The conversation with the chip: doors, devices, sessions, objects, NV, evidence."""
