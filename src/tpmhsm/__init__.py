"""TPM HSM: the TPM 2.0 chip as a hardware security module and certificate authority."""

__version__ = "0.1.0"
