"""The attacks of `tpmhsm demo --attack`: what root on the CA host tries. Every command goes to the
software TPM of a home of its own, which refuses or does not: nothing here is told, it is done.

    house      the CA that is attacked, and the people who approve, each with a machine of their own
    root       root at the chip: commands in any order, with approvals that were given
    watching   every command and every answer, as they go by
    scene      one attack as it runs: its tries, and what came of them
    table      all attacks, by name
    shell      the prompt
"""
