"""What is inside a record: message content in MIMI form, and the text rules for what may reach a screen."""
