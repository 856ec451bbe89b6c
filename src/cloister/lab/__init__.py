"""For teaching: the documents' originals without the fixes, and attacks on them.

No product path imports this package. What runs here shows why a fix is there; it protects nobody.
"""
