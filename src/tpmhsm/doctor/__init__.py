"""What may be wrong with a set-up: facts are gathered (`look_*`), then judged (`*_checks`).

Judging is pure: a check is one function from facts to findings (`tpmhsm.doctor.judging`). Gathering
never fails: what could not be seen is a fact, too, with the reason in words.
"""
