"""Certificate authorities: prepare, have signed, issue. They know no TPM, only a signer."""
