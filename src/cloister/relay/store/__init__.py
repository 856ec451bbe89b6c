"""What the relay keeps: one interface, two stores (memory, SQLite), one conformance suite."""
