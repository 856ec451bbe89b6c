"""What an app needs to show what peers wrote: `safe_text` and `safe_name`, as the client package gives them out.

Source: docs/architecture.md ("Layers"): apps import the client and nothing below it.
"""

from cloister.content.text import safe_name, safe_text

__all__ = ["safe_name", "safe_text"]
