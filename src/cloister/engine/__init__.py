"""The sans-I/O client core: frames, commands and times in; writes, frames and events out."""
