"""What each suite costs to agree on a key: entries, mailbox items, bytes and CPU."""
