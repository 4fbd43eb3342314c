"""X.509 on plain objects: names, CSRs, profiles, issuance, chains and their validation.

This room knows no chip, no database and no terminal. Whoever signs is handed in as an object that
behaves as a `cryptography` private key, or signs later what `issue.prepare` hands out.
"""
