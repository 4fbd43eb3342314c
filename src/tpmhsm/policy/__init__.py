"""What a key demands before it acts: model, TPM digests, threshold ladders, documents, plans.

Pure: no chip, no files, no network. The chip's arithmetic is repeated here with hashlib, so that
an approver or an auditor recomputes every digest instead of believing the host.

Start with `ladder` (M of N inside the chip), then `group` (who), `tree` (which steps), `plan`
(which commands).
"""
