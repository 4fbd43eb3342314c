"""What is being signed, how a person sees it, and how they say yes or no.

Start with `request` (what travels to an approver), then `acts` (which commands of the chip it
asks for, recomputed from the bytes), `review` (every check before a person is asked), `display`
(what the person sees) and `approve` (the signature, and its check on the host).

Nothing here believes the host: digests, Names and policyRefs are recomputed, and what the host
merely claims is shown as a claim.
"""
