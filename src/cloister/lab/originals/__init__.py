"""The five documents as they stand, one file a suite: each override takes exactly one fix back.

A suite built from these has a variant name of its own, which no product suite consents to (`not_allowed`).
"""
