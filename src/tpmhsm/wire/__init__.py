"""What is said to a TPM: structures and commands as tables, encode and decode, Names, hashes.

No conversation happens here and nothing here does I/O. Tables follow the TCG "TPM 2.0 Library"
Part 2 (structures) and Part 3 (commands), revision 1.59.

    constants    the numbers
    codec        how a table becomes an encoder and a decoder
    structures   Part 2
    public       Part 2, public areas of keys
    attest       Part 2, what the chip signs about itself
    commands     Part 3, one class a command and one a response
    framing      headers, authorization areas
    names        Names, cpHash, rpHash
    kdf          KDFa, KDFe
    rc           return codes in words and as errors
"""
